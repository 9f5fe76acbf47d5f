/* SPDX-License-Identifier: MIT */
/* See part.h. */
#include "part.h"

#include <sys/stat.h>
#include <unistd.h>

buf part_name(const char *path) {
    struct stat there;
    buf part = {0};
    if (lstat(path, &there) || S_ISREG(there.st_mode)) buf_fmt(&part, "%s.%ld.part", path, (long)getpid());
    return part;
}
