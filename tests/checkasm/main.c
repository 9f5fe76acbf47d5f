/* SPDX-License-Identifier: MIT */
/* checkasm: runs every kernel of kernels.inc that this CPU can run, and the AVX-512 ones a second time emulated.
 *
 *   checkasm [--seed N] [--test FAMILY] [--function SUBSTRING] [--list] [--cpumask MASK] [--bench] [--csv]
 *
 * Exit 0 when every kernel kept its contract.  A kernel in kernels.inc without a test is a failure; one that this
 * CPU cannot run (and that has no emulation) is counted and named. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "checkasm.h"
#include "core/core.h"
#include "ck_peak.h"

/* The emulated twin of a kernel is emul_<symbol>, present when tests/emul was linked. */
#define KERNEL(f, type, need, symbol)                                                                                  \
    extern __typeof__(*(type)0) symbol;                                                                                \
    extern __typeof__(*(type)0) emul_##symbol __attribute__((weak));
#define ACT_KIND(type, need, kind)
#define SET(field, need, value)
#include "kernels/kernels.inc"
#undef KERNEL

typedef struct list_row {
    const char *field, *symbol;
    size_t offset;
    unsigned need;
    ck_anyfn fn, emul;
} list_row;

static const list_row list[] = {
#define KERNEL(f, type, need, symbol)                                                                                  \
    {#f, #symbol, offsetof(crit_kernels, f), (unsigned)(need), (ck_anyfn)symbol, (ck_anyfn)emul_##symbol},
#include "kernels/kernels.inc"
#undef KERNEL
    {NULL, NULL, 0, 0, NULL, NULL},
};

typedef struct family {
    const char *name;
    void (*test)(ck *s, const ck_row *row);
    void (*bench)(ck *s, const ck_row *row);
} family;

static const family families[] = {
#define FAMILY(name) {#name, ck_test_##name, ck_bench_##name},
#include "families.inc"
#undef FAMILY
};

static sigjmp_buf trap;
static volatile sig_atomic_t trap_sig;

static void on_signal(int sig) {
    trap_sig = sig;
    siglongjmp(trap, 1);
}

/* Level of an emulated row: the mask its table is built for, then the emulated kernels laid over it. */
static void make_table(ck *s, unsigned need, bool emulated) {
    if (!emulated) {
        crit_kernels_init(&s->table, need);
        return;
    }
    crit_kernels_init(&s->table, need);
    for (const list_row *l = list; l->symbol; l++) {
        if ((l->need & need) != l->need || !(l->need & ~(unsigned)CRIT_CPU_AVX2)) continue;
        if (l->emul) memcpy((char *)&s->table + l->offset, &l->emul, sizeof l->emul);
    }
}

typedef struct options {
    uint64_t seed;
    const char *test, *function;
    unsigned mask;
    bool list, bench, csv;
} options;

static int usage(const char *why, const char *what) {
    fprintf(stderr,
            "checkasm: %s '%s'\nusage: checkasm [--seed N] [--test FAMILY] [--function SUBSTRING] [--list]\n"
            "                [--cpumask MASK] [--bench] [--csv]\n",
            why, what);
    return 2;
}

static int parse(int argc, char **argv, options *o) {
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(a, "--list"))
            o->list = true;
        else if (!strcmp(a, "--bench"))
            o->bench = true;
        else if (!strcmp(a, "--csv"))
            o->csv = true;
        else if (!strcmp(a, "--seed") || !strcmp(a, "--test") || !strcmp(a, "--function") || !strcmp(a, "--cpumask")) {
            if (!v) return usage("needs a value:", a);
            i++;
            if (!strcmp(a, "--test"))
                o->test = v;
            else if (!strcmp(a, "--function"))
                o->function = v;
            else {
                char *end;
                errno = 0;
                unsigned long long n = strtoull(v, &end, 0);
                if (errno || end == v || *end) return usage("not a number:", v);
                if (!strcmp(a, "--seed"))
                    o->seed = n;
                else
                    o->mask = (unsigned)n;
            }
        } else
            return usage("unknown option", a);
    }
    return 0;
}

static void split_field(const char *field, char *fam, size_t cap) {
    size_t n = strcspn(field, "[");
    if (n >= cap) n = cap - 1;
    memcpy(fam, field, n);
    fam[n] = 0;
}

/* Index of an array field: distance of its offset from element 0 (the families that are arrays). */
static size_t field_index(const list_row *l, const char *fam) {
    size_t base = l->offset;
    if (!strcmp(fam, "gemm"))
        base = offsetof(crit_kernels, gemm);
    else if (!strcmp(fam, "gemv"))
        base = offsetof(crit_kernels, gemv);
    else if (!strcmp(fam, "dequant"))
        base = offsetof(crit_kernels, dequant);
    else if (!strcmp(fam, "act_pack"))
        base = offsetof(crit_kernels, act_pack);
    return (l->offset - base) / sizeof(ck_anyfn);
}

/* 0 held, 1 failed */
static int run_row(ck *s, const ck_row *row, const family *f, const options *o) {
    s->row = row;
    s->note = "start";
    s->n_fail = s->n_check = 0;
    s->worst = 0;
    s->rng = o->seed;
    make_table(s, row->need, row->emulated);
    if (sigsetjmp(trap, 1) == 0) {
        if (o->bench) {
            if (!row->emulated) f->bench(s, row);
        } else {
            f->test(s, row);
            ck_release(s);
            if (s->n_check == 0) ck_fail(s, "the test compared nothing");
        }
    } else {
        ck_fail(s, "%s", strsignal(trap_sig));
        ck_release(s);
    }
    return s->n_fail != 0;
}

/* Two levels that store K and V differently must not share a kernel that reads or writes them: AVX2's key_scores once
 * read the AMX level's blocks, and no test of a single kernel can see that. */
static int layouts_share_kernels(void) {
#define KNOWS(f) {#f, offsetof(crit_kernels, f)}
    static const struct {
        const char *name;
        size_t offset;
    } knows[] = {KNOWS(attend),     KNOWS(block_lse),  KNOWS(kv_put),
                 KNOWS(key_scores), KNOWS(mix_values), KNOWS(block_stats)};
    int n_bad = 0;
    for (const list_row *l = list; l->symbol; l++)
        for (const list_row *m = list; m->symbol; m++) {
            crit_kernels a, b;
            crit_kernels_init(&a, l->need);
            crit_kernels_init(&b, m->need);
            if (a.kv_layout >= b.kv_layout) continue;
            for (size_t i = 0; i < sizeof knows / sizeof *knows; i++) {
                if (memcmp((const char *)&a + knows[i].offset, (const char *)&b + knows[i].offset, sizeof(ck_anyfn)))
                    continue;
                fprintf(stderr, "FAIL %s: the same kernel for the KV layouts %d (cpu 0x%x) and %d (cpu 0x%x)\n",
                        knows[i].name, (int)a.kv_layout, l->need, (int)b.kv_layout, m->need);
                if (++n_bad == 8) return n_bad;
            }
        }
    return n_bad;
}

static const family *family_named(const char *name) {
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (!strcmp(families[i].name, name)) return &families[i];
    return NULL;
}

int main(int argc, char **argv) {
    options o = {.seed = (uint64_t)time(NULL), .mask = CRIT_CPU_ALL};
    int rc = parse(argc, argv, &o);
    if (rc) return rc;
    unsigned host = crit_cpu_detect();
    if (host & CRIT_CPU_AVX2) host |= CRIT_CPU_I16_DOT; /* says what is fast, not what runs */
    host &= o.mask;

    static ck s;
    s.seed = o.seed;
    s.csv = o.csv;
    crit_kernels_init(&s.ref, 0);
    fprintf(stderr, "checkasm: seed %llu, cpu mask 0x%x\n", (unsigned long long)o.seed, host);
    double peak256 = 0, peak512 = 0;
    if (o.bench && !o.list) {
        peak256 = peak_fma(256);
        peak512 = peak_fma(512);
        s.read_bytes = peak_read();
        fprintf(stderr, "checkasm: f32 FMA peak %.1f GFLOP/s (256 bit), %.1f (512 bit); read %.1f GB/s\n",
                peak256 * 1e-9, peak512 * 1e-9, s.read_bytes * 1e-9);
    }

    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = on_signal;
    sigemptyset(&sa.sa_mask);
    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGBUS, &sa, NULL);
    sigaction(SIGILL, &sa, NULL);
    sigaction(SIGFPE, &sa, NULL);

    size_t n_run = 0, n_fail = o.list || o.bench ? 0 : (size_t)layouts_share_kernels(), n_skip = 0, n_match = 0;
    for (const list_row *l = list; l->symbol; l++) {
        char fam[64];
        split_field(l->field, fam, sizeof fam);
        if (o.test && strcmp(o.test, fam)) continue;
        if (o.function && !strstr(l->symbol, o.function)) continue;
        n_match++;
        const family *f = family_named(fam);
        if (o.list) {
            printf("%-32s %-28s 0x%02x%s%s\n", l->symbol, l->field, l->need, l->emul ? " emulated" : "",
                   f ? "" : " NO TEST");
            continue;
        }
        if (!f) {
            fprintf(stderr, "FAIL %s: no test for family '%s'\n", l->symbol, fam);
            n_fail++;
            continue;
        }
        bool native = (l->need & host) == l->need;
        /* an emulated kernel still runs AVX2 code around it */
        bool emul = l->emul && (l->need & (o.mask & (host | ~(unsigned)CRIT_CPU_AVX2))) == l->need;
        if (!native && !emul) {
            if (!o.bench) fprintf(stderr, "skip %s: this CPU cannot run it\n", l->symbol);
            n_skip++;
            continue;
        }
        for (int e = 0; e < 2; e++) {
            if (e == 0 ? !native : !emul) continue;
            ck_row row = {l->field, fam, l->symbol, field_index(l, fam), l->need, e == 1, e ? l->emul : l->fn};
            s.peak_flops = (l->need & CRIT_CPU_AVX512) ? peak512 : peak256;
            int bad = run_row(&s, &row, f, &o);
            n_run++;
            n_fail += (size_t)bad;
            if (!o.bench)
                printf("%-4s %-36s%s %8zu checks, worst %.2f of the bound\n", bad ? "FAIL" : "ok", l->symbol,
                       e ? " (avx512-emulated)" : "", s.n_check, s.worst);
            fflush(stdout);
        }
    }
    if (n_match == 0 && o.test && !o.function && family_named(o.test)) {
        fprintf(stderr, "checkasm: %s has no kernel on this architecture\n", o.test);
        return 77; /* skipped, to ctest */
    }
    if (n_match == 0) return usage("no kernel matches", o.test ? o.test : o.function ? o.function : "");
    if (!o.list)
        fprintf(stderr, "checkasm: %zu run, %zu failed, %zu skipped (seed %llu)\n", n_run, n_fail, n_skip,
                (unsigned long long)o.seed);
    return n_fail != 0;
}
