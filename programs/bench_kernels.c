/* SPDX-License-Identifier: MIT */
/* critiprefill bench --peak and --kernels: rows of measure.h as a table, CSV or JSON, and as a roofline. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "files.h"
#include "jsonout.h"
#include "mdtable.h"
#include "roofline.h"
#include "term.h"

static const md_col cols[] = {{"group", 8, true},  {"what", 22, true},    {"code", 10, true},
                              {"shape", 34, true}, {"threads", 7, false}, {"time", 10, false},
                              {"rate", 16, false}, {"of peak", 8, false}, {"of dense", 8, false}};
enum { N_COL = sizeof cols / sizeof *cols };

typedef struct table {
    const options *o;
    json_t *rows;
    roofline plot;
    buf drift; /* "f32 fma -1.4 %, ..." */
    int rc;
} table;

crit_measure_params bench_measure_params(const options *o) {
    crit_measure_params p;
    crit_measure_params_init(&p);
    p.cpu = cpu_names[o->cpu];
    p.n_threads = o->n_threads;
    p.pin = o->pin;
    p.quick = o->quick;
    return p;
}

void bench_cpu_text(buf *out) {
    buf info = {0};
    FILE *f = fopen("/proc/cpuinfo", "re");
    for (size_t n = 1; f && n && buf_room(&info, 4096); info.n += n) n = fread(info.s + info.n, 1, 4096, f);
    if (f) fclose(f);
    if (info.s) info.s[info.n] = 0;
    const char *at = info.s ? strstr(info.s, "model name") : NULL;
    at = at ? strchr(at, ':') : NULL;
    if (at) {
        at += 1 + strspn(at + 1, " \t");
        buf_clean(out, at, strcspn(at, "\n"));
    } else
        buf_str(out, "CPU");
    buf_free(&info);
}

static void put_time(buf *out, size_t *at, double s) {
    if (s < 1e-6)
        md_num(out, cols, N_COL, at, s * 1e9, 1, " ns");
    else if (s < 1e-3)
        md_num(out, cols, N_COL, at, s * 1e6, 1, " us");
    else
        md_num(out, cols, N_COL, at, s * 1e3, 1, " ms");
}

static void put_md(buf *out, const crit_measure_row *r) {
    size_t at = 0;
    md_cell(out, cols, N_COL, &at, "%s%s", r->group, r->at_end ? " end" : "");
    md_cell(out, cols, N_COL, &at, "%s", r->name);
    md_cell(out, cols, N_COL, &at, "%s", r->isa);
    md_cell(out, cols, N_COL, &at, "%s", r->shape);
    md_cell(out, cols, N_COL, &at, "%u", r->n_threads);
    put_time(out, &at, r->seconds);
    if (r->here)
        md_num(out, cols, N_COL, &at, r->rate * 1e-9, 1, r->by_byte ? " GB/s" : " GFLOP/s");
    else
        md_cell(out, cols, N_COL, &at, "not here");
    md_num(out, cols, N_COL, &at, 100 * r->share, 1, " %");
    md_num(out, cols, N_COL, &at, r->efficiency, 2, "x");
}

static void put_number(buf *out, double x) {
    if (isfinite(x))
        buf_fmt(out, ",%.6g", x);
    else
        buf_str(out, ",");
}

static void put_csv(buf *out, const crit_measure_row *r) {
    /* Names and shapes may hold commas: "1024 x 2048" does not, "512 rows, ..." does. */
    buf_fmt(out, "%s,%s,%s,\"%s\",%u,%d", r->group, r->name, r->isa, r->shape, r->n_threads, r->at_end);
    put_number(out, r->seconds);
    put_number(out, r->flop);
    put_number(out, r->bytes);
    put_number(out, r->here ? r->rate : (double)NAN);
    buf_fmt(out, ",%s", r->by_byte ? "B/s" : "FLOP/s");
    put_number(out, r->share);
    put_number(out, r->efficiency);
    buf_str(out, "\n");
}

static json_t *row_json(const crit_measure_row *r) {
    json_t *j = json_object();
    json_put(j, "group", json_cstr(r->group));
    json_put(j, "name", json_cstr(r->name));
    json_put(j, "isa", json_cstr(r->isa));
    json_put(j, "shape", json_cstr(r->shape));
    json_put(j, "threads", json_integer(r->n_threads));
    json_put(j, "here", json_boolean(r->here));
    json_put(j, "at_end", json_boolean(r->at_end));
    json_put(j, "seconds", json_num(r->seconds));
    json_put(j, "flop", json_num(r->flop));
    json_put(j, "bytes", json_num(r->bytes));
    json_put(j, "rate", json_num(r->rate));
    json_put(j, "unit", json_cstr(r->by_byte ? "B/s" : "FLOP/s"));
    json_put(j, "share", json_num(r->share));
    json_put(j, "efficiency", json_num(r->efficiency));
    return j;
}

/* How a peak's second reading differs from the first, which the roofline holds. */
static void note_drift(table *t, const crit_measure_row *r) {
    double before = roofline_roof(&t->plot, r->name, r->isa);
    if (!isfinite(before)) return;
    buf_fmt(&t->drift, "%s%s %s %+.1f %%", t->drift.n ? ", " : "", r->name, r->isa, 100 * (r->rate / before - 1));
}

static int on_row(void *user, const crit_measure_row *r) {
    table *t = user;
    buf out = {0};
    if (t->o->format == FORMAT_MD) put_md(&out, r);
    if (t->o->format == FORMAT_CSV) put_csv(&out, r);
    if (t->o->format == FORMAT_JSON) json_array_append_new(t->rows, row_json(r));
    if (r->at_end)
        note_drift(t, r);
    else
        roofline_add(&t->plot, r);
    t->rc = out_buf(&out);
    buf_free(&out);
    if (!t->rc && term_interrupted()) t->rc = EXIT_INTERRUPTED;
    return t->rc;
}

static int head(const table *t) {
    buf out = {0};
    if (t->o->format == FORMAT_MD) md_head(&out, cols, N_COL);
    if (t->o->format == FORMAT_CSV)
        buf_str(&out, "group,name,isa,shape,threads,at_end,seconds,flop,bytes,rate,unit,share,efficiency\n");
    int rc = out_buf(&out);
    buf_free(&out);
    return rc;
}

static int finish(table *t, const buf *cpu) {
    int rc = EXIT_OK;
    const char *level = t->o->cpu ? cpu_names[t->o->cpu] : crit_cpu_name();
    if (t->o->format == FORMAT_JSON) {
        json_t *j = json_object();
        json_put(j, "cpu", json_cstr(cpu->s ? cpu->s : ""));
        json_put(j, "level", json_cstr(level));
        json_put(j, "rows", json_incref(t->rows));
        rc = json_print(j);
    }
    if (!rc && t->drift.n && !t->drift.oom) note("peaks from first to last: %s", t->drift.s);
    if (rc || !t->o->plot) return rc;
    buf svg = {0}, title = {0};
    buf_fmt(&title, "%s, one core, %s", cpu->s ? cpu->s : "", level);
    roofline_svg(&svg, title.oom ? "" : title.s, &t->plot);
    rc = file_write(t->o->plot, &svg);
    buf_free(&svg);
    buf_free(&title);
    return rc;
}

int bench_kernels_main(const options *o) {
    table t = {.o = o, .rows = json_array()};
    crit_measure_params p = bench_measure_params(o);
    crit_error err = {0};
    buf cpu = {0};
    bench_cpu_text(&cpu);
    int rc = o->plot ? bench_check_plot(o->plot) : EXIT_OK;
    if (!rc) rc = head(&t);
    if (!rc && (o->peak ? crit_measure_peaks : crit_measure_kernels)(&p, on_row, &t, &err))
        rc = t.rc ? t.rc : fail_with(&err);
    if (!rc) rc = finish(&t, &cpu);
    roofline_free(&t.plot);
    json_decref(t.rows);
    buf_free(&t.drift);
    buf_free(&cpu);
    return rc;
}
