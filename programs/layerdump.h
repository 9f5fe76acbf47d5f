/* SPDX-License-Identifier: MIT */
/* What layer views hold, as NumPy files of one folder, for others to study:
 *
 *   layerLLL-q.npy, -out.npy     [n_tok][n_head][d_head] f32
 *   layerLLL-k.npy, -v.npy       [n_tok][n_kv_head][d_head] f32, rounded as attention reads them
 *   layerLLL-plan-offsets.npy    [n_tile * n_head + 1] i64
 *   layerLLL-plan-ids.npy        i32; blocks of tile t and head h: ids[offsets[t * n_head + h] ...)
 *   meta.json                    shapes, lengths of tiles and blocks, model, attention */
#ifndef PROG_LAYERDUMP_H
#define PROG_LAYERDUMP_H

#include <jansson.h>

#include "critiprefill/inspect.h"

typedef struct layerdump layerdump;

/* Makes the folder if it is missing.  EXIT_OK or the exit code after a line on stderr (as all of these). */
int layerdump_open(layerdump **d, const char *dir, uint32_t n_layer);
int layerdump_add(layerdump *d, const crit_layer_view *view);
/* With rc 0: ends the files and writes meta (taken) with what the dump knows itself; else removes the unfinished
 * files.  Accepts NULL. */
int layerdump_close(layerdump **d, json_t *meta, int rc);

#endif
