/* SPDX-License-Identifier: MIT */
/* critiprefill inspect: which blocks were computed, against what dense attention weighs.
 *
 * A PNG shows one layer and head, or the density of all; an HTML page shows everything and the text.  One prefill, and
 * a look at every layer of it. */
#include "inspect_page.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "bench.h"
#include "eval.h"
#include "files.h"
#include "image.h"
#include "progress.h"
#include "term.h"

enum {
    PAGE_SIDE = 256,
    PAGE_CELLS = 2400000, /* 4.8 MB, 6.4 MB in base 64 */
    PICTURE_SIDE = 640
};

typedef struct inspection {
    const options *o;
    variants list;
    crit_model *model;
    crit_model_info info;
    prompt text;
    collected c;
    progress bar;
    bool page;
} inspection;

/* ---- what to read ---- */

static bool ends_in(const char *s, const char *end) {
    const size_t n = strlen(s), k = strlen(end);
    return n > k && !strcasecmp(s + n - k, end);
}

static int check_options(inspection *x) {
    const options *o = x->o;
    x->page = ends_in(o->output, ".html");
    if (!x->page && !ends_in(o->output, ".png"))
        return usage("inspect", "-o: '%s' ends neither in .png nor in .html", o->output);
    const bool one = o->layers.n == 1 && o->heads.n == 1, none = !o->layers.n && !o->heads.n;
    if (!x->page && !one && !none)
        return usage("inspect", "a .png shows one --layer and one --head, or without both the density of all");
    int rc = variants_parse(&x->list, o, "inspect", o->variants ? o->variants : "criti");
    if (!rc && x->list.n != 1) rc = usage("inspect", "--attn takes one attention here");
    return rc ? rc : bench_check_plot(o->output);
}

static int check_model(const inspection *x) {
    const options *o = x->o;
    for (size_t i = 0; i < o->layers.n; i++)
        if (o->layers.v[i] >= x->info.n_layer)
            return fail("--layer: the model has layers 0 to %u, not %u", x->info.n_layer - 1, o->layers.v[i]);
    for (size_t i = 0; i < o->heads.n; i++)
        if (o->heads.v[i] >= x->info.n_head)
            return fail("--head: the model has heads 0 to %u, not %u", x->info.n_head - 1, o->heads.v[i]);
    return EXIT_OK;
}

/* The files' first tokens and the whole of -p behind them, n tokens together. */
static int shorten(inspection *x, size_t n) {
    prompt asked = {0}, text = {0};
    buf file = {0};
    options files = *x->o;
    files.prompt = NULL;
    int rc = text_read(&files, &file);
    if (!rc && x->o->prompt) {
        buf line = {0};
        buf_fmt(&line, "\n%s", x->o->prompt);
        rc = line.oom ? fail_memory() : prompt_tokenize(&asked, x->model, line.s, line.n, 0);
        buf_free(&line);
    }
    if (!rc && asked.n >= n) rc = fail("-p has %zu tokens: more than fit into %zu", asked.n, n);
    if (!rc) rc = prompt_tokenize(&text, x->model, file.s, file.n, CRIT_TOK_BOS_EOS);
    if (!rc) {
        const size_t keep = text.n < n - asked.n ? text.n : n - asked.n;
        memcpy(x->text.ids, text.ids, keep * sizeof *text.ids);
        if (asked.n) memcpy(x->text.ids + keep, asked.ids, asked.n * sizeof *asked.ids);
        note("the first %zu of the text's %zu tokens are read%s", keep, text.n, asked.n ? ", then -p" : "");
        x->text.n = keep + asked.n;
    }
    prompt_free(&asked);
    prompt_free(&text);
    buf_free(&file);
    return rc;
}

static int read_text(inspection *x) {
    const options *o = x->o;
    const uint32_t limit = model_context(&x->info);
    bool from_stdin = false;
    for (size_t i = 0; i < o->files.n; i++) from_stdin = from_stdin || !strcmp(o->files.v[i], "-");
    if (limit && o->n_ctx > limit && !o->force)
        return fail("%s: %u tokens are more than the %u the model was trained for (--force runs them)", o->model,
                    o->n_ctx, limit);
    buf text = {0};
    int rc = text_read(o, &text);
    if (!rc) rc = prompt_tokenize(&x->text, x->model, text.s, text.n, CRIT_TOK_BOS_EOS);
    buf_free(&text);
    if (!rc && !x->text.n) return fail("%s: the text is empty", text_name(o));
    const size_t most = o->n_ctx ? o->n_ctx : limit;
    if (rc || !most || x->text.n <= most) return rc;
    if (!o->prompt) {
        note("the first %zu of the text's %zu tokens are read", most, x->text.n);
        x->text.n = most;
        return EXIT_OK;
    }
    if (from_stdin) return fail("stdin: the text has %zu tokens, and only %zu can be read", x->text.n, most);
    return shorten(x, most);
}

/* ---- the prefill ---- */

static int look(inspection *x) {
    const options *o = x->o;
    const bool one = !x->page && o->layers.n;
    const collect_params p = {.layers = o->layers.v,
                              .heads = o->heads.v,
                              .n_layers = o->layers.n,
                              .n_heads = o->heads.n,
                              .n_probe = o->n_probe,
                              .seed = o->sampler.seed,
                              .side = x->page ? PAGE_SIDE : PICTURE_SIDE,
                              .cells = x->page ? PAGE_CELLS
                                       : one   ? SIZE_MAX
                                               : 0,
                              .tokens = x->page};
    const crit_session_params sp = variant_session(o, &x->list.v[0], (uint32_t)x->text.n);
    crit_error err = {0};
    crit_session *s = NULL;
    crit_prefill_params pp;
    int rc = collect_open(&x->c, &p, x->info.n_layer, x->info.n_head, (uint32_t)x->text.n);
    if (rc) return rc;
    crit_prefill_params_init(&pp);
    pp.progress = progress_step;
    pp.progress_user = &x->bar;
    pp.on_layer = collect_layer;
    pp.layer_user = &x->c;
    progress_start(&x->bar, !o->no_progress, x->list.v[0].name);
    crit_status st = crit_session_open(&s, x->model, &sp, &err);
    if (!st) st = crit_prefill(s, x->text.ids, x->text.n, &pp, &err);
    progress_end(&x->bar);
    crit_stats stats = {.struct_size = sizeof stats};
    if (!st) st = crit_session_stats(s, &stats);
    x->c.density = stats.density;
    if (st) rc = x->c.rc ? x->c.rc : fail_with(&err);
    crit_session_close(&s);
    collect_end(&x->c);
    return rc;
}

/* ---- pictures ---- */

static uint32_t mixed(uint32_t a, uint32_t b, double t) {
    uint32_t rgb = 0;
    for (int shift = 16; shift >= 0; shift -= 8) {
        const double x = a >> shift & 255, y = b >> shift & 255;
        rgb |= (uint32_t)lround(x + (y - x) * t) << shift;
    }
    return rgb;
}

/* log10 w from 10^lo up over so many decades, as a share */
static double on_scale(double w, double lo, double decades) {
    return w > 0 ? fmin(fmax((log10(w) - lo) / decades, 0), 1) : 0;
}

enum { FUTURE = 0xECEFF3, UNREAD = 0xFFFFFF, LIGHT = 0xCFE2F7, HEAVY = 0x0B2F66, MISSED = 0xD00000 };

/* page/inspect.js draws the same. */
static uint32_t cell_colour(const grid_cell *x) {
    const double kept = (double)x->kept, missed = (double)x->missed;
    if (isnan(kept)) return FUTURE;
    uint32_t rgb = mixed(UNREAD, LIGHT, kept);
    if (kept > 0) rgb = mixed(rgb, HEAVY, on_scale((double)x->weight - missed, -4, 3.5));
    return mixed(rgb, MISSED, on_scale(missed, -3.5, 3));
}

static int draw_head(const inspection *x, buf *png) {
    static const image_key key[] = {{LIGHT, "computed, little weight"},
                                    {HEAVY, "computed, much weight (log scale, from exact queries)"},
                                    {UNREAD, "not computed"},
                                    {MISSED, "not computed, but dense attention puts weight there (log scale)"}};
    const collected *c = &x->c;
    const size_t n = (size_t)c->n_row * c->n_col;
    uint32_t *rgb = malloc(n * sizeof *rgb);
    if (!rgb) return fail_memory();
    for (size_t i = 0; i < n; i++) rgb[i] = cell_colour(&c->cell[i]);
    char title[160];
    snprintf(title, sizeof title, "Layer %u, head %u: density %.3f, weight kept %.4f", c->layer[0], c->head[0],
             collect_density(c, c->layer[0], c->head[0]), c->mass[0]);
    const pixmap p = {.title = title,
                      .x_title = "keys, by position",
                      .y_title = "queries, by position",
                      .n_x = c->n_col,
                      .n_y = c->n_row,
                      .rgb = rgb,
                      .x_end = (double)c->n_col * c->blk_pool * CRIT_VIEW_BLK_LEN,
                      .y_end = (double)c->n_row * c->tile_pool * CRIT_VIEW_TILE_LEN,
                      .key = key,
                      .n_key = sizeof key / sizeof *key};
    int rc = pixmap_png(&p, png);
    free(rgb);
    return rc;
}

static int draw_matrix(const inspection *x, buf *png) {
    const collected *c = &x->c;
    double *value = malloc((size_t)c->n_layer * c->n_head * sizeof *value);
    if (!value) return fail_memory();
    for (uint32_t l = 0; l < c->n_layer; l++)
        for (uint32_t h = 0; h < c->n_head; h++) value[(size_t)l * c->n_head + h] = collect_density(c, l, h);
    char title[160];
    snprintf(title, sizeof title, "Density of the plans, %zu tokens: %.3f", x->text.n, c->density);
    const heatmap map = {.title = title,
                         .x_title = "head",
                         .y_title = "layer",
                         .n_x = c->n_head,
                         .n_y = c->n_layer,
                         .value = value,
                         .lo = 0,
                         .hi = 1,
                         .decimals = 2};
    int rc = heatmap_png(&map, png);
    free(value);
    return rc;
}

static const char *model_name(const inspection *x) {
    const char *slash = strrchr(x->o->model, '/');
    return *x->info.name ? x->info.name : slash ? slash + 1 : x->o->model;
}

static int draw(inspection *x) {
    buf out = {0};
    int rc = x->page     ? inspect_page(&x->c, x->model, model_name(x), x->list.v[0].name, &x->text, &out)
             : x->c.cell ? draw_head(x, &out)
                         : draw_matrix(x, &out);
    if (!rc) rc = file_write(x->o->output, &out);
    if (!rc && !x->o->no_progress)
        note("%s: %zu tokens, density %.3f, %s", x->list.v[0].name, x->text.n, x->c.density, x->o->output);
    buf_free(&out);
    return rc;
}

int inspect_main(const options *o) {
    inspection x = {.o = o};
    double load_ms;
    int rc = check_options(&x);
    if (!rc) rc = model_open(o, &x.model, &x.info, &load_ms);
    if (!rc) rc = check_model(&x);
    if (!rc) rc = read_text(&x);
    if (!rc) rc = look(&x);
    if (!rc) rc = draw(&x);
    collect_free(&x.c);
    prompt_free(&x.text);
    crit_model_close(&x.model);
    return rc;
}
