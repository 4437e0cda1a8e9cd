# For find_package(llama-expert-tracer).
include(${CMAKE_CURRENT_LIST_DIR}/llama-expert-tracer-targets.cmake)
