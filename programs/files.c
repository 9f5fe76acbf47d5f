/* SPDX-License-Identifier: MIT */
/* See files.h.  The build sets CRIT_TEXT_INSTALLED and CRIT_TEXT_TREE: folders as seen from the program's own. */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "part.h"
#include "term.h"

enum { PIECE = 1 << 16 };

int file_read(const char *path, buf *out) {
    bool is_stdin = !strcmp(path, "-");
    const char *name = is_stdin ? "stdin" : path;
    int fd = is_stdin ? 0 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail("%s: %s", name, strerror(errno));
    int rc = EXIT_OK;
    for (;;) {
        if (term_interrupted())
            rc = EXIT_INTERRUPTED;
        else if (!buf_room(out, PIECE))
            rc = fail("%s: out of memory", name);
        if (rc) break;
        ssize_t n = read(fd, out->s + out->n, PIECE);
        if (n == 0) break;
        if (n > 0)
            out->n += (size_t)n;
        else if (errno != EINTR)
            rc = fail("%s: %s", name, strerror(errno));
        if (rc) break;
    }
    if (out->s) out->s[out->n] = 0;
    if (!is_stdin) close(fd);
    return rc;
}

int text_read(const options *o, buf *out) {
    for (size_t i = 0; i < o->files.n; i++) {
        int rc = file_read(o->files.v[i], out);
        if (rc) return rc;
    }
    if (o->prompt) {
        if (out->n && out->s[out->n - 1] != '\n') buf_str(out, "\n");
        buf_str(out, o->prompt);
    }
    return out->oom ? fail_memory() : EXIT_OK;
}

const char *text_name(const options *o) {
    return !o->files.n ? "-p" : strcmp(o->files.v[0], "-") ? o->files.v[0] : "stdin";
}

static bool same_file(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && S_ISREG(x.st_mode) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int outputs_apart(const options *o) {
    const char *const written[] = {o->output, o->plot, o->html, o->csv, o->save_logits};
    const char *const read[] = {o->model, o->config, o->base_logits, o->essay, o->squad, o->hotpot};
    const size_t n_read = sizeof read / sizeof *read;
    for (size_t w = 0; w < sizeof written / sizeof *written; w++)
        for (size_t r = 0; written[w] && r < n_read + o->files.n; r++) {
            const char *in = r < n_read ? read[r] : o->files.v[r - n_read];
            if (in && same_file(written[w], in)) return fail("%s: is read here, and would be replaced", written[w]);
        }
    return EXIT_OK;
}

/* Appends the files under dir that match the patterns, in their order and by name. */
static int read_tree(const char *dir, buf *out) {
    static const char *const patterns[] = {"README.md", "CONTRIBUTING.md",         "SPEED.md", "doc/*.md", "src/*/*.c",
                                           "src/*/*.h", "include/critiprefill/*.h"};
    int rc = EXIT_OK;
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns && !rc; i++) {
        buf p = {0};
        glob_t g;
        for (const char *s = dir; *s; s++) buf_fmt(&p, strchr("*?[\\", *s) ? "\\%c" : "%c", *s);
        buf_fmt(&p, "/%s", patterns[i]);
        if (!p.oom && glob(p.s, 0, NULL, &g) == 0) {
            for (size_t k = 0; k < g.gl_pathc && !rc; k++) rc = file_read(g.gl_pathv[k], out);
            globfree(&g);
        }
        buf_free(&p);
    }
    return rc;
}

int text_own(buf *out) {
    static const char *const folders[] = {CRIT_TEXT_INSTALLED, CRIT_TEXT_TREE};
    /* From where the program is, not from where it was built: an installed tree may be moved, and is read before the
     * sources it was built from, which may have changed. */
    char program[PATH_MAX];
    const ssize_t len = readlink("/proc/self/exe", program, sizeof program);
    const char *slash = len > 0 ? memrchr(program, '/', (size_t)len) : NULL;
    int rc = EXIT_OK;
    for (size_t i = 0; slash && i < sizeof folders / sizeof *folders && !rc && !out->n; i++) {
        buf dir = {0}, known = {0};
        buf_fmt(&dir, "%.*s/%s", (int)(slash - program), program, folders[i]);
        buf_fmt(&known, "%s/include/critiprefill/version.h", dir.s ? dir.s : "");
        if (dir.oom || known.oom)
            rc = fail_memory();
        else if (access(known.s, R_OK) == 0) /* ours, and no folder that happens to be there */
            rc = read_tree(dir.s, out);
        buf_free(&known);
        buf_free(&dir);
    }
    if (!rc && !out->n)
        rc = fail("no text to read: the program's own is not in %s, seen from its folder; name one with -f",
                  CRIT_TEXT_INSTALLED);
    return rc;
}

static bool write_all(int fd, const buf *s) {
    for (size_t done = 0; done < s->n;) {
        ssize_t w = write(fd, s->s + done, s->n - done);
        if (w > 0)
            done += (size_t)w;
        else if (w == 0 || errno != EINTR)
            return false;
    }
    return true;
}

int file_write(const char *path, const buf *s) {
    if (s->oom) return fail_memory();
    buf part = part_name(path);
    if (part.oom) return fail_memory();
    const bool direct = !part.n;
    int fd = open(direct ? path : part.s, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), why = errno;
    bool ok = fd >= 0 && write_all(fd, s);
    if (fd >= 0) {
        why = errno;
        if (close(fd) < 0 && ok) ok = false, why = errno;
        if (ok && !direct && rename(part.s, path) < 0) ok = false, why = errno;
        if (!ok && !direct) unlink(part.s);
    }
    buf_free(&part);
    return ok ? EXIT_OK : fail("%s: %s", path, strerror(why));
}
