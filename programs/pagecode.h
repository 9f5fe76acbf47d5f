/* SPDX-License-Identifier: MIT */
/* The bytes in which the page of inspect holds its numbers; page/inspect.js reads them. */
#ifndef PROG_PAGECODE_H
#define PROG_PAGECODE_H

/* A weight on a log scale.  0: below a millionth; else 1 to 255, 6 decades. */
unsigned char pagecode_weight(double w);
/* Four bits each.  The high ones: the share that is computed in 15ths, 0 for nothing and 15 for all alone, since a cell
 * of many blocks may owe its whole weight to the one that is.  The low ones: how much of the weight is missed; 0 for
 * less than an 800th, else 15 for all and a factor of 10^0.2 a step. */
unsigned char pagecode_shares(double kept, double weight, double missed);

#endif
