// The screen of `top`, of frames that are made up: what is where, at which size, and that nothing leaves it.

#include "unit.h"

#include "commands/top/top-heat.h"
#include "commands/top/top-screen.h"
#include "tool/error.h"
#include "tool/heatmap.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

//
// frames
//

// The expert that layer i uses most, by far.
static size_t hottest_of(size_t layer) {
    return (layer * 37 + 11) % 512;
}

// A model whose every layer uses one expert 200 times, and expert j otherwise j % 8 times.
static struct watch_frame * frame_new(size_t n_layers, int32_t n_expert) {
    struct watch_frame * frame = memory_new(1, sizeof(*frame));
    uint64_t           * cells = memory_new(n_layers * (size_t) n_expert, sizeof(*cells));
    *frame = (struct watch_frame) {
        .pid = 4711, .program = "llama-server", .tracer = "0.1.0", .switches = LIVE_COUNTS,
        .model = "Qwen3 Next 80B", .architecture = "qwen3next", .engine = "llama.cpp 0.7.0, ggml 0.27.0",
        .n_contexts = 1, .n_models = 1, .number = 1, .phases_known = true, .window = 10.0,
        .n_tokens = 12345678, .n_prompt = 12000000, .n_generation = 345678,
        .rate = { 1234.5, 43.21, 1277.71 }, .window_rate = { 1000.0, 41.0, 1041.0 }, .n_layers = n_layers,
        .layers = memory_new(n_layers, sizeof(*frame->layers)), .cells = cells, .n_expert = n_expert,
        .n_slots = n_layers * (size_t) n_expert, .entropy = 0.931, .drift = { 0.0123, 0.0103, 1.2 }, .watched = 77.0,
        .n_watched = 1000, .reuse = { { 0.341, 1000 }, { 0.412, 100 }, { 0.347, 1100 } }, .bytes_known = true,
        .all_bytes = 0x1p35,
    };
    for (size_t i = 0; i < n_layers; i++) {
        struct watch_layer * layer = &frame->layers[i];
        uint64_t           * row   = cells + i * (size_t) n_expert;
        *layer = (struct watch_layer) {
            .layer = (int32_t) i, .n_expert = n_expert, .n_used = 8, .counts = row,
            .entropy = 0.9 + 0.001 * (double) ((i * 7) % n_layers), .hottest = hottest_of(i) % (size_t) n_expert,
        };
        for (int32_t j = 0; j < n_expert; j++) {
            row[j] = (uint64_t) j % 8;
            layer->unused += row[j] == 0;
        }
        row[layer->hottest] = 200;
        for (int32_t j = 0; j < n_expert; j++) {
            layer->activations += row[j];
        }
        layer->share = 200.0 / (double) layer->activations;
    }
    for (frame->n_hot = 0; frame->n_hot < WATCH_N_HOT && frame->n_hot < n_layers; frame->n_hot++) {
        const size_t i = frame->n_hot;
        frame->hot[i] = (struct watch_slot) { i, (uint16_t) frame->layers[i].hottest, 200, frame->layers[i].share };
    }
    for (frame->n_sequences = 0; frame->n_sequences < 4; frame->n_sequences++) {
        const size_t i = frame->n_sequences;
        frame->sequences[i] = (struct watch_sequence) {
            1, (int32_t) i, 3, 12345, i % 2 == 1, 0.1 * (double) i, 1000, 100, 10.5 * (double) i, 0.453,
        };
    }
    for (frame->n_sizes = 0; frame->n_sizes < 8; frame->n_sizes++) {
        struct watch_size * size = &frame->sizes[frame->n_sizes];
        const double        part = pow(0.5, (double) (8 - frame->n_sizes));
        *size = (struct watch_size) { part * n_expert, part, part * 0x1p35, frame->n_sizes == 5, .llama_slots = 8 };
        for (int phase = 0; phase < WATCH_N_PHASES; phase++) {
            const double share = (phase == WATCH_ANY_PHASE ? 0.25 : 0.2) + 0.1 * (double) frame->n_sizes;
            size->lru[phase]     = size->llama[phase]     = (struct watch_share) { share, 1000 };
            size->lru_all[phase] = size->llama_all[phase] = (struct watch_share) { NAN, 0 };
        }
    }
    return frame;
}

static void frame_free(struct watch_frame * frame) {
    free((void *) (uintptr_t) frame->cells);
    free(frame->layers);
    free(frame);
}

//
// screens
//

static struct top_scene scene_of(const struct watch_frame * frame) {
    return (struct top_scene) { .who = "llama-server (4711)", .frame = frame, .has_keys = true };
}

static struct top_view view_new(void) {
    return (struct top_view) { .window = 2, .interval = 1.0, .page = 10 };
}

static char * printed(const struct grid * grid) {
    char                * text     = NULL;
    size_t                size     = 0;
    const struct terminal terminal = { .out = open_memstream(&text, &size), .width = grid->n_columns };
    grid_print(grid, &terminal);
    fclose(terminal.out);
    if (getenv("TOP_SHOW") != NULL) {
        printf("---- %zux%zu\n%s", grid->n_columns, grid->n_rows, text);
    }
    return text;
}

// The lines of a screen of that size; each is as wide as it may be.
static char * screen(const struct top_scene * scene, struct top_view * view, size_t columns, size_t rows, bool utf8) {
    struct grid grid = grid_new(rows, columns, utf8, 0);
    size_t      n    = 0;
    top_screen_fill(&grid, scene, view);
    char * text = printed(&grid);
    for (const char * line = text; *line != '\0'; line = strchr(line, '\n') + 1, n++) {
        char * copy = memory_text("%.*s", (int) strcspn(line, "\n"), line);
        assert_true(grid_width(&grid, copy) <= columns);
        free(copy);
    }
    assert_true(n <= rows);
    grid_free(&grid);
    return text;
}

static void expect_in(const char * text, const char * wanted) {
    if (strstr(text, wanted) == NULL) {
        print_error("'%s' is not in:\n%s", wanted, text);
        fail();
    }
}

static void expect_not_in(const char * text, const char * unwanted) {
    if (strstr(text, unwanted) != NULL) {
        print_error("'%s' is in:\n%s", unwanted, text);
        fail();
    }
}

// Of the usual frame. The view may be NULL.
static char * usual(struct top_view * view, size_t columns, size_t rows) {
    struct watch_frame   * frame = frame_new(48, 512);
    const struct top_scene scene = scene_of(frame);
    struct top_view        plain = view_new();
    char                 * text  = screen(&scene, view != NULL ? view : &plain, columns, rows, true);
    frame_free(frame);
    return text;
}

static void test_the_usual_size(void ** state) {
    (void) state;
    char * text = usual(NULL, 80, 24);
    expect_in(text, "llama-server (4711)  Qwen3 Next 80B (qwen3next)  llama.cpp 0.7.0\n");
    expect_in(text, "prompt   1234 t/s  generation   43.2 t/s  in the window 1000 and 41.0\n");
    expect_in(text, "evenness 0.931  reuse 34.1% prompt, 41.2% gen  drift 1.2 x noise  bits 0.0123\n");
    expect_in(text, "window 10 s  counting  watched for 77 s  layers by number\n");
    expect_in(text, "tokens 12.35M  prompt 12.00M  generation 345678\n");
    expect_in(text, "LAYER  EVEN HOTTEST  SHARE EXPERTS 1 TO 512 BY RANK\n");
    expect_in(text, "    0 0.900      11  10.1% █▓");
    expect_in(text, " SLOT     POS PHASE     T/S   USED    SLOTS     SIZE prompt    gen prompt    gen\n");
    expect_in(text, "    1   12345 gen      10.5  45.3%      4.0  256 MiB  30.0%  30.0%  30.0%  30.0%\n");
    expect_in(text, "hottest 0:11 10.1%  1:48 10.0%");
    expect_in(text, "\nq quit  h help");
    free(text);
}

static void test_more_room_shows_more(void ** state) {
    (void) state;
    char * text = usual(NULL, 200, 50);
    expect_in(text, "hottest experts\n");
    expect_in(text, "SLOT     POS PHASE     T/S   USED  LIFE  SLOTS");
    expect_in(text, "   22 0.");
    expect_in(text, "4 x the even share\n");
    free(text);
}

static void test_little_room_has_what_matters(void ** state) {
    (void) state;
    char * text = usual(NULL, 40, 10);
    expect_in(text, "llama-server (4711)  Qwen3 Next 80B (qwe\nprompt   1234 t/s  generation   43.2 t/s\n"
                    "evenness 0.931  drift 1.2 x noise\n");
    expect_in(text, "    4 0.");
    free(text);
    text = usual(NULL, 1, 1);
    assert_string_equal(text, "l\n");
    free(text);
}

// In a pipe every row is there, and no keys are.
static void test_as_many_rows_as_there_are(void ** state) {
    (void) state;
    struct watch_frame * frame = frame_new(48, 512);
    struct top_scene     scene = scene_of(frame);
    struct top_view      view  = view_new();
    scene.has_keys = false;
    char * text = screen(&scene, &view, 80, top_screen_rows(&scene), true);
    expect_in(text, "\n   47 0.");
    expect_in(text, "  256 16.0 GiB  90.0%"); // the largest cache
    expect_in(text, " 16    15 ");
    expect_not_in(text, "q quit");
    free(text);
    frame_free(frame);
}

// Nothing leaves the screen, whatever its size, its mode, and what there is.
static void try_all_modes(const struct top_scene * scene, size_t columns, size_t rows, bool utf8) {
    static const char * const choices[] = { "llama-server (1)", "llama-server (2)", "llama-server (3)" };
    struct top_scene          its       = *scene;
    its.choices = choices;
    for (int mode = TOP_LAYERS; mode <= TOP_CHOICE; mode++) {
        for (int question = TOP_ASKS_NOTHING; question <= TOP_ASKS_SECONDS; question++) {
            struct top_view view = view_new();
            view.mode      = (enum top_mode) mode;
            view.question  = (enum top_question) question;
            view.scroll    = 100000;
            view.n_choices = 3;
            view.choice    = 2;
            view.layer     = 47;
            strcpy(view.typed, "/very/long/name/of/a/file/that/does/not/fit/into/eighty/columns/of/a/line/"
                               "of/a/terminal/ä.moetrace");
            free(screen(&its, &view, columns, rows, utf8));
        }
    }
}

static void test_every_size(void ** state) {
    static const size_t sizes [][2] = {
        { 1, 1 }, { 1, 24 }, { 2, 2 }, { 5, 5 }, { 23, 7 }, { 24, 60 }, { 34, 12 }, { 40, 10 }, { 79, 24 }, { 80, 1 },
        { 80, 3 }, { 80, 24 }, { 110, 30 }, { 132, 43 }, { 200, 50 }, { 500, 200 },
    };
    static const size_t shapes[][2] = { { 48, 512 }, { 1, 1 }, { 4, 2 }, { 0, 0 } };
    (void) state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        struct watch_frame   * frame = frame_new(shapes[i][0], (int32_t) shapes[i][1]);
        const struct top_scene scene = scene_of(frame);
        const struct top_scene empty = { .who = "llama-server (4711)", .why = "no model is open there yet" };
        for (size_t j = 0; j < sizeof(sizes) / sizeof(sizes[0]); j++) {
            try_all_modes(&scene, sizes[j][0], sizes[j][1], j % 2 == 0);
            try_all_modes(&empty, sizes[j][0], sizes[j][1], j % 2 == 0);
        }
        frame_free(frame);
    }
}

//
// heat
//

// Level of a layer's heat in the column of a map that begins at 27.
static int level_at(const struct grid * grid, size_t row, size_t column) {
    const int style = grid_cell(grid, row, 27 + column)->style;
    return style >= GRID_HEAT ? style - GRID_HEAT : -1;
}

// 512 experts in 53 columns: the one that is used much is the first, and hotter than all others, in each layer.
static void test_a_hot_spot_stays(void ** state) {
    (void) state;
    struct watch_frame   * frame = frame_new(48, 512);
    const struct top_scene scene = scene_of(frame);
    struct top_view        view  = view_new();
    struct grid            grid  = grid_new(70, 80, true, 256);
    top_screen_fill(&grid, &scene, &view);
    for (size_t row = 7; row < 7 + 30; row++) {
        assert_int_equal(level_at(&grid, row, 0), HEATMAP_N_LEVELS - 1);
        assert_true(level_at(&grid, row, 1) < HEATMAP_N_LEVELS - 1);
        for (size_t column = 1; column < 53; column++) {
            assert_true(level_at(&grid, row, column) <= level_at(&grid, row, column - 1));
            assert_true(level_at(&grid, row, column) >= 0);
        }
    }
    grid_free(&grid);
    frame_free(frame);
}

// Few colours, or none, have shades; many have none.
static void test_colors(void ** state) {
    (void) state;
    static const struct { int colors; bool utf8; const char * text; } kinds[] = {
        { 256, true, " " }, { 16, true, "█" }, { 8, false, "#" }, { 0, true, "█" }, { 0, false, "#" },
    };
    struct watch_frame   * frame = frame_new(48, 512);
    const struct top_scene scene = scene_of(frame);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct top_view view = view_new();
        struct grid     grid = grid_new(24, 80, kinds[i].utf8, kinds[i].colors);
        top_screen_fill(&grid, &scene, &view);
        assert_string_equal(grid_cell(&grid, 6, 27)->text, kinds[i].text);
        grid_free(&grid);
    }
    frame_free(frame);
}

//
// what may be there
//

static void test_nothing_is_known(void ** state) {
    (void) state;
    struct watch_frame   * frame = frame_new(4, 8);
    const struct top_scene scene = scene_of(frame);
    struct top_view        view  = view_new();
    for (size_t i = 0; i < frame->n_layers; i++) {
        memset((void *) (uintptr_t) frame->layers[i].counts, 0, 8 * sizeof(uint64_t));
        frame->layers[i].activations = 0;
        frame->layers[i].entropy     = frame->layers[i].share = NAN;
    }
    frame->model  = frame->architecture = frame->engine = NULL;
    frame->window = frame->entropy = frame->all_bytes = frame->watched = NAN;
    for (size_t i = 0; i < WATCH_N_PHASES; i++) {
        frame->rate[i] = frame->window_rate[i] = frame->reuse[i].share = NAN;
    }
    frame->drift        = (struct watch_drift) { NAN, NAN, NAN };
    frame->n_hot        = 0;
    frame->phases_known = false;
    for (size_t i = 0; i < frame->n_sizes; i++) {
        frame->sizes[i] = (struct watch_size) { .slots = NAN, .share = NAN, .bytes = NAN };
        frame->sizes[i].lru_all[WATCH_ANY_PHASE].share = NAN;
    }
    for (size_t i = 0; i < frame->n_sequences; i++) {
        frame->sequences[i].position = -1;
        frame->sequences[i].rate     = frame->sequences[i].used = frame->sequences[i].age = NAN;
    }
    char * text = screen(&scene, &view, 120, 40, true);
    expect_in(text, "name unknown\ntokens      - t/s  in the window -\nevenness -  reuse -  drift -");
    expect_in(text, "    0     -       -      -\n");
    expect_in(text, "    0       - -           -      -     3");
    expect_not_in(text, "nan");
    free(text);
    view.mode = TOP_LAYER;
    text = screen(&scene, &view, 120, 40, true);
    expect_in(text, "layer 0  experts 8, 8 for each token  evenness -  unused 1  activations 0\n");
    expect_not_in(text, "nan");
    free(text);
    frame_free(frame);
}

// All tokens have a rate and shares, and nothing is told of a phase.
static void test_phases_are_not_known(void ** state) {
    (void) state;
    struct watch_frame   * frame = frame_new(48, 512);
    const struct top_scene scene = scene_of(frame);
    struct top_view        view  = view_new();
    frame->phases_known = false;
    for (size_t i = 0; i < N_TOKEN_PHASES; i++) {
        frame->rate[i] = frame->window_rate[i] = frame->reuse[i].share = NAN;
    }
    char * text = screen(&scene, &view, 120, 40, true);
    expect_in(text, "\ntokens   1278 t/s  in the window 1041\nevenness 0.931  reuse 34.7%  drift 1.2 x noise");
    expect_in(text, "hits of a cache   LRU  LLAMA");
    expect_in(text, "SLOTS     SIZE    all    all");
    expect_in(text, "  4.0  256 MiB  35.0%  35.0%");
    expect_in(text, "\n    1   12345 -        10.5  45.3%");
    expect_not_in(text, "prompt");
    expect_not_in(text, "gen");
    free(text);
    frame->n_sequences = 0;
    text = screen(&scene, &view, 80, 24, true);
    expect_in(text, "\nsequences    ");
    expect_in(text, "\nnot known    ");
    free(text);
    frame_free(frame);
}

static void test_no_model_yet(void ** state) {
    (void) state;
    const struct top_scene scene = { .who = "llama-server (4711)", .why = "no model is open there yet" };
    struct top_view        view  = view_new();
    char                 * text  = screen(&scene, &view, 80, 24, true);
    assert_string_equal(text, "llama-server (4711)\n\nno model is open there yet\n");
    free(text);
}

static void test_hostile_names(void ** state) {
    (void) state;
    struct watch_frame   * frame = frame_new(4, 8);
    const struct top_scene scene = {
        .who = "a\033[2Jb (1)", .frame = frame, .message = "\033]0;title\a", .why = "x\ry", .has_keys = true,
    };
    struct top_view view = view_new();
    frame->model        = "\033[31mred\nnext\t\xff\xfe";
    frame->architecture = "\xe2\x80\xae" "turned";         // U+202E
    frame->engine       = "模型模型 e\xcc\x81 \xc2\x9b" "31m"; // two columns each; an accent; CSI of C1
    for (int utf8 = 0; utf8 < 2; utf8++) {
        char * text = screen(&scene, &view, 120, 24, utf8);
        for (const char * at = text; *at != '\0'; at++) {
            assert_true((unsigned char) *at >= ' ' || *at == '\n');
            assert_true(utf8 || (unsigned char) *at < 0x7f);
        }
        expect_in(text, "a?[2Jb (1)  ?[31mred?next???");
        expect_in(text, utf8 ? "(?turned)  模型模型 e ?31m\n" : "turned)");
        expect_not_in(text, "\xc2\x9b");
        free(text);
    }
    free(screen(&scene, &view, 33, 24, true));
    frame_free(frame);
}

static void test_it_has_ended(void ** state) {
    (void) state;
    struct watch_frame * frame = frame_new(4, 8);
    struct top_scene     scene = scene_of(frame);
    struct top_view      view  = view_new();
    scene.has_ended = true;
    char * text = screen(&scene, &view, 80, 24, true);
    expect_in(text, "\nhas ended  window 10 s");
    free(text);
    frame_free(frame);
}

// Where not all have room those are shown that had a token last.
static void test_the_latest_sequences(void ** state) {
    (void) state;
    struct watch_frame   * frame = frame_new(48, 512);
    const struct top_scene scene = scene_of(frame);
    struct top_view        view  = view_new();
    for (frame->n_sequences = 0; frame->n_sequences < WATCH_N_SEQUENCES; frame->n_sequences++) {
        const int i = (int) frame->n_sequences;
        frame->sequences[i] = (struct watch_sequence) {
            .context = 1, .sequence = i, .position = 7, .age = i == 50 ? 0.0 : 1.0 + i, .rate = 1.0,
        };
    }
    char * text = screen(&scene, &view, 80, 24, true);
    expect_in(text, "sequences: the latest 6 of 64");
    expect_in(text, "\n   50       7 ");
    expect_in(text, "\n    4       7 ");
    expect_not_in(text, "\n    5       7 ");
    free(text);
    frame_free(frame);
}

//
// keys
//

static void test_sorting(void ** state) {
    (void) state;
    struct watch_frame * frame = frame_new(5, 8);
    struct top_view      view  = view_new();
    size_t               order[5];
    const double         evenness[] = { 0.5, NAN, 0.2, 0.9, 0.2 };
    const double         shares[]   = { 0.1, 0.9, NAN, 0.3, 0.2 };
    for (size_t i = 0; i < 5; i++) {
        frame->layers[i].entropy = evenness[i];
        frame->layers[i].share   = shares[i];
    }
    const size_t wanted[N_TOP_SORTS][5] = { { 0, 1, 2, 3, 4 }, { 2, 4, 0, 3, 1 }, { 1, 3, 4, 0, 2 } };
    for (int sort = 0; sort < N_TOP_SORTS; sort++) {
        top_view_order(&view, frame, order);
        assert_memory_equal(order, wanted[sort], sizeof(order));
        assert_int_equal(top_view_key(&view, frame, 's'), TOP_DRAW);
    }
    assert_int_equal(view.sort, TOP_BY_NUMBER);
    view.sort = TOP_BY_EVENNESS; // the arrows follow what is seen
    top_view_key(&view, frame, TOP_KEY_DOWN);
    assert_int_equal(view.layer, 3); // behind layer 0
    top_view_key(&view, frame, TOP_KEY_HOME);
    assert_int_equal(view.layer, 2);
    top_view_key(&view, frame, 'G');
    assert_int_equal(view.layer, 1);
    frame_free(frame);
}

static void test_windows(void ** state) {
    (void) state;
    static const int seconds[] = { 10, 30, 60, WATCH_ALL, 1, 5, 10 };
    struct top_view  view      = view_new();
    for (size_t i = 0; i < sizeof(seconds) / sizeof(seconds[0]); i++) {
        assert_int_equal(top_view_window(&view), seconds[i]);
        assert_int_equal(top_view_key(&view, NULL, 'w'), TOP_LOOK);
    }
    for (size_t i = 0; i < 9; i++) {
        top_view_key(&view, NULL, '-');
    }
    assert_int_equal(top_view_window(&view), 1);
    top_view_key(&view, NULL, 'W');
    assert_int_equal(top_view_window(&view), WATCH_ALL);
    top_view_key(&view, NULL, '+');
    assert_int_equal(top_view_window(&view), WATCH_ALL);
}

static void type(struct top_view * view, const struct watch_frame * frame, const char * text) {
    for (; *text != '\0'; text++) {
        assert_int_equal(top_view_key(view, frame, (unsigned char) *text), TOP_DRAW);
    }
}

static void test_questions(void ** state) {
    (void) state;
    struct watch_frame * frame = frame_new(4, 8);
    struct top_view      view  = view_new();
    assert_int_equal(top_view_key(&view, frame, 'z'), TOP_DRAW);
    assert_int_equal(top_view_key(&view, frame, 'q'), TOP_DRAW);  // anything but y is no
    assert_int_equal(top_view_key(&view, frame, 'R'), TOP_DRAW);
    assert_int_equal(top_view_key(&view, frame, TOP_KEY_RESIZE), TOP_DRAW);
    assert_int_equal(top_view_key(&view, frame, 'y'), TOP_RESET);
    type(&view, frame, "rq\xc3\xa4");
    top_view_key(&view, frame, TOP_KEY_ERASE);                    // a whole character
    assert_string_equal(view.typed, "q");
    type(&view, frame, ".moetrace");
    assert_int_equal(top_view_key(&view, frame, TOP_KEY_ENTER), TOP_RECORD);
    assert_string_equal(view.typed, "q.moetrace");
    type(&view, frame, "rx");
    assert_int_equal(top_view_key(&view, frame, TOP_KEY_ESCAPE), TOP_DRAW);
    assert_int_equal(view.question, TOP_ASKS_NOTHING);
    frame->switches |= LIVE_RECORDS;
    assert_int_equal(top_view_key(&view, frame, 'r'), TOP_RECORD_STOP);
    type(&view, frame, "d0.5");
    assert_int_equal(top_view_key(&view, frame, TOP_KEY_ENTER), TOP_LOOK);
    assert_true(view.interval == 0.5);
    type(&view, frame, "dnonsense");
    top_view_key(&view, frame, TOP_KEY_ENTER);
    assert_true(view.interval == 0.5);
    assert_int_equal(top_view_key(&view, frame, 'q'), TOP_QUIT);
    frame_free(frame);
}

static void test_a_layer(void ** state) {
    (void) state;
    struct top_view view = view_new();
    struct watch_frame   * frame = frame_new(48, 512);
    const struct top_scene scene = scene_of(frame);
    type(&view, frame, "jj\n");
    char * text = screen(&scene, &view, 80, 24, true);
    expect_in(text, "layer 2  experts 512, 8 for each token  evenness 0.914  hottest 85, 10.1%\n");
    expect_in(text, "\n   1     85     200  10.1% ████████████    16    119       7");
    free(text);
    type(&view, frame, "s"); // by number
    text = screen(&scene, &view, 80, 24, true);
    expect_in(text, "\n 449      0       0   0.0%                ");
    free(text);
    view.scroll = 1000;
    text = screen(&scene, &view, 80, 24, true);
    expect_in(text, "511       7   0.4%");
    free(text);
    assert_int_equal(view.scroll, 512 - 30);
    top_view_key(&view, frame, TOP_KEY_LEFT);
    assert_int_equal(view.layer, 1);
    top_view_key(&view, frame, TOP_KEY_ESCAPE);
    assert_int_equal(view.mode, TOP_LAYERS);
    frame_free(frame);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_usual_size),
        cmocka_unit_test(test_more_room_shows_more),
        cmocka_unit_test(test_little_room_has_what_matters),
        cmocka_unit_test(test_as_many_rows_as_there_are),
        cmocka_unit_test(test_every_size),
        cmocka_unit_test(test_a_hot_spot_stays),
        cmocka_unit_test(test_colors),
        cmocka_unit_test(test_nothing_is_known),
        cmocka_unit_test(test_phases_are_not_known),
        cmocka_unit_test(test_no_model_yet),
        cmocka_unit_test(test_hostile_names),
        cmocka_unit_test(test_it_has_ended),
        cmocka_unit_test(test_the_latest_sequences),
        cmocka_unit_test(test_sorting),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_questions),
        cmocka_unit_test(test_a_layer),
    };
    setlocale(LC_CTYPE, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
