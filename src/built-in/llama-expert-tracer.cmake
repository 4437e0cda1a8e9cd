# Builds llama-expert-tracer into llama.cpp, shared or static, without an edit of its tree:
#
#   cmake -S llama.cpp -B build -DCMAKE_PROJECT_llama.cpp_INCLUDE=<this file>
#
# or, where llama.cpp is part of a larger build, set(CMAKE_PROJECT_llama.cpp_INCLUDE <this file>) before
# add_subdirectory() or FetchContent_MakeAvailable().

set_property(GLOBAL PROPERTY EXPERT_TRACER_FOLDER ${CMAKE_CURRENT_LIST_DIR})

function(expert_tracer_build_into_llama)
    get_property(folder GLOBAL PROPERTY EXPERT_TRACER_FOLDER)
    include(${folder}/llama-expert-tracer-target.cmake)
endfunction()

# when llama.cpp has made its targets
cmake_language(DEFER CALL expert_tracer_build_into_llama)
