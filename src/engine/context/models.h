// The program's models: which file each was loaded from, and what the engine or that file says of them.
//
// A model is either seen (the program's calls to load it pass us) or known by one of its expert tensors alone, when the
// program fetched llama.cpp's functions with dlsym.

#pragma once

#include "engine/upstream/real.h"
#include "routing/routing.h"

// What a struct routing_model points to.
struct model_strings {
    char name        [256];
    char architecture[ 64];
    char engine      [512];
};

// The program loaded or freed a model.
void models_on_loaded(const struct llama_model * model, const char * path);
void models_on_free  (const struct llama_model * model);

// The file that a model was loaded from, NULL: not known.
const char * models_path(const void * model);

// There is a model that is known by this expert tensor.
void models_note_unseen(const void * key);

// Nothing shows when a model that is not seen is freed, and its tensor's address may come back as another model's.
// Before there can be another model its file is opened: what is not `is_in_use` then counts as freed.
void models_close_unseen(bool (*is_in_use)(const void * key));

// Describe the engine, a model that is seen, and one that is not: by its file, as far as it is clear which one that is.
void models_describe_engine(struct routing_model * about, struct model_strings * strings, const struct real * real);
void models_describe       (struct routing_model * about, struct model_strings * strings, const struct real * real,
                            const struct llama_model * model);
void models_describe_unseen(struct routing_model * about);

// As capture_drop_all().
void models_drop_all(void);

// In the child of a fork: forgets everything without touching it.
void models_forget_all(void);
