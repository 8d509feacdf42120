/* Coulomb forces on a GPU: what backend_cuda.cu hands to coulomb_cuda.cu. */
#pragma once

#include <cuda_runtime.h>

/* Arrays are on the device. */
typedef struct {
  const double *x, *z;  /* [dim][m], [dim][n] */
  const double *charge; /* [n], NULL: unit charges that are points */
  const double *centre; /* [dim] what float is relative to */
  double        softening2;
  double       *partial; /* [pieces][m][dim + 2] */
  double       *out;     /* [m][dim + 2], see GramCoulomb() */
  int           dim, m, n;
  int           piece; /* charges of a piece: it depends on n alone, and so do a row's bits */
  int           pieces;
  bool          narrow; /* pairs in float */
} GramCoulombWork;

void GramCoulombLaunch(const GramCoulombWork *work, cudaStream_t stream);
