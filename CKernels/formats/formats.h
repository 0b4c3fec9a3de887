/* Number formats: the axis beside the instruction sets.
 *
 * A header of this folder describes one format in two parts. The first part says how a panel stores the format; it is
 * the same on every machine. The second part says how a chunk of a panel becomes an operand of a tile, in the vocabulary
 * of isa/isa.h. foreach.h includes the second part once for each instruction set, before the kernel's template. Only
 * that instance knows both the format and the machine. */
#ifndef MOE_FORMATS_H
#define MOE_FORMATS_H

#include "../include/CKernels.h"

/* ---- panels, on every machine --------------------------------------------------------------------------- */

enum {
  LINE = 64,                       /* bytes of a cache line: the unit of rows and of panels */
  LINE_FLOATS = LINE / 4,          /* floats of a line */
  CHUNK_STEPS = LINE_FLOATS,       /* steps of a chunk: a line of a row holds 16 floats, one for each */
  CHUNK_BYTES = CHUNK_STEPS * LINE /* bytes of a chunk of panel without scales: a step is a line */
};

/* How a panel stores a format. */
typedef struct {
  int64_t chunk_k;    /* values of k in a chunk: those of a step times CHUNK_STEPS */
  size_t chunk_bytes; /* bytes of a chunk */
  /* Writes `values` [K] as column n of a panel of zeros. Returns the largest magnitude that it wrote, as float bits. */
  uint32_t (*pack_column)(const float *values, int64_t K, int n, char *panel);
  /* Writes a float32 panel over K, a multiple of MOE_K_MULTIPLE, as a panel of this format. */
  void (*narrow)(const float *from, int64_t K, char *panel);
} panel_format;

/* Float bits of infinity. Magnitudes as integers are in the order of the floats, with infinity and NaN above all others. */
#define INFINITE_BITS 0x7f800000u

extern const panel_format moe_panel_formats[MOE_FORMAT_COUNT];

/* ---- a tile's operands, for one format on one instruction set ------------------------------------------- */

#define STEP_K          KERNEL(STEP_K)          /* values of k in a step of a panel */
#define PANEL_CHUNK     KERNEL(PANEL_CHUNK)     /* bytes of a chunk of a panel */
#define ROW_CHUNK       KERNEL(ROW_CHUNK)       /* bytes of a row's part of a chunk of a tile */
#define ROWS_HAVE_PAIRS KERNEL(ROWS_HAVE_PAIRS) /* whether rows keep pairs of values in 32 bits */
#define PARTS           KERNEL(PARTS)           /* multiply-adds of a step */
#define SQUARE          KERNEL(SQUARE)          /* bytes of 16 columns by 16 values of k of a panel */

#define multiply_step    KERNEL(multiply_step)    /* one step of a tile: all its rows times all its panels */
#define multiply_add     KERNEL(multiply_add)     /* a sum plus the product of one part of a step */
#define row_store        KERNEL(row_store)        /* 16 values enter a row of a tile */
#define row_load         KERNEL(row_load)         /* 16 values leave a row of a tile */
#define transpose_square KERNEL(transpose_square) /* [k][n] of a square becomes [n][k] */

#endif
