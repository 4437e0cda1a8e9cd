// Packed chunks: several payloads of data in one (docs/trace-format.md, "Packed").

#pragma once

#include "trace/format/trace-code.h"
#include "trace/read/trace-chunks.h"
#include "trace/read/trace-json-reader.h"
#include "trace/read/trace-parts.h"
#include "trace/read/trace-records.h"

// Makes of parts->packed the payloads that it was made of. Returns false where it is none.
bool trace_packed_read(struct trace_parts * parts, const struct chunk_header * header,
                       const struct trace_tables * tables, const struct trace_code * code);
