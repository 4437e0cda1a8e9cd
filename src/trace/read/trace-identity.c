// Reads the first chunk of a file, and who the file is.

#include "trace/read/trace-identity.h"

#include "trace/read/trace-chunks.h"
#include "trace/read/trace-json-reader.h"
#include "trace/read/trace-values.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static enum trace_found read_identity(const struct trace_source * source, struct trace_identity * identity) {
    struct trace_chunk            chunk;
    const enum chunk_header_state state = trace_chunk_at(source, 0, &chunk);
    if (state == CHUNK_HEADER_CUT_OFF || (state == CHUNK_HEADER_GOOD && trace_chunk_end(&chunk) > source->size)) {
        return TRACE_FOUND_BEGUN;
    }
    struct trace_buffer payload = { 0 };
    struct trace_info   info    = { 0 };
    json_t            * header  = NULL;
    const bool ok = state == CHUNK_HEADER_GOOD && chunk.header.kind == TRACE_CHUNK_HEADER &&
                    trace_chunk_load(source, &chunk, &payload) &&
                    trace_json_read_header(&payload, &info, &header) == NULL;
    snprintf(identity->id, sizeof(identity->id), "%s", info.trace_id != NULL ? info.trace_id : "");
    identity->part = info.part;
    json_decref(header);
    trace_buffer_free(&payload);
    return ok ? TRACE_FOUND : TRACE_FOUND_OTHER;
}

enum trace_found trace_identify(const char * path, struct trace_identity * identity) {
    struct trace_source source;
    struct stat         about;
    *identity = (struct trace_identity) { 0 };
    if (stat(path, &about) != 0) {
        return errno == ENOENT || errno == ENOTDIR ? TRACE_FOUND_NOTHING : TRACE_FOUND_OTHER;
    }
    if (!S_ISREG(about.st_mode)) {
        return TRACE_FOUND_OTHER;
    }
    if (trace_source_open(&source, path) != NULL) {
        return errno == ENOENT ? TRACE_FOUND_NOTHING : TRACE_FOUND_OTHER;
    }
    const enum trace_found found = source.fd >= 0 && fstat(source.fd, &about) == 0 ? read_identity(&source, identity)
                                                                                   : TRACE_FOUND_OTHER;
    identity->device = (uint64_t) about.st_dev;
    identity->inode  = (uint64_t) about.st_ino;
    trace_source_close(&source);
    return found;
}

bool trace_identity_is_same_file(const struct trace_identity * a, const struct trace_identity * b) {
    return a->device == b->device && a->inode == b->inode;
}

bool trace_identity_is_same_trace(const struct trace_identity * a, const struct trace_identity * b) {
    return a->id[0] != '\0' && strcmp(a->id, b->id) == 0;
}
