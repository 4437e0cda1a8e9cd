// What `predict` guesses, and by what.

#pragma once

enum predict_step {
    PREDICT_NEXT_LAYER, // of the same token
    PREDICT_NEXT_TOKEN, // of its sequence, in the same layer
    PREDICT_N_STEPS
};

enum predict_guess {
    PREDICT_LEARNED,    // what followed in the first half
    PREDICT_POPULAR,    // the most activated of the first half
    PREDICT_REPEATED,   // those of the token before, again
    PREDICT_CONTROL,    // the truth, which must be found
    PREDICT_N_GUESSES
};
