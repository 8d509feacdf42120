/* What the verbs share: prediction at targets, and the account of a run in the file and on standard output. */
#pragma once

#include "gram_mat.h"
#include "model.h"
#include "solve.h"

/* What a prediction is made of. */
typedef struct {
  GramPoints        X;
  const GramKernel *kernel;
  GramBackend       backend;
  Mat               C;    /* coefficients, laid out as GramMatCreate() of X */
  const PetscReal  *tail; /* [monomials][q] coefficients of the polynomial, on all ranks; NULL without one */
  GramSolver        solver; /* of the model's system, where variances are asked for */
} GramFit;

/* What became of it. */
typedef struct {
  PetscReal rmse, mae; /* over all columns; NaN where values are not known */
  PetscInt  missed;    /* variances that are not good to GRAM_VARIANCE_RTOL, on all ranks */
} GramPrediction;

/**
  GramPredict - Mean of GramModel at targets, its gradient and the variance where they ask for them, in original units, into
  a file.

  Collective. One chunk of targets after the other is read, predicted and written: memory does not grow with them. Answers
  of mixed solves are good to double: predictions from them are evaluated in double.
**/
PetscErrorCode GramPredict(const GramFit *fit, GramTargets *targets, GramH5 file, GramPrediction *prediction);

/* The line of the summary; on standard error what was missed. Collective. */
PetscErrorCode GramPredictSay(const GramTargets *targets, const GramPrediction *prediction);

/* Where the time of a run goes; starts with GramRunBegin(). */
PetscErrorCode GramRunBegin(GramRun *run, const char *verb);

/* Seconds since the begin or the last call: to be stored in one of run's fields. */
PetscErrorCode GramRunLap(PetscLogDouble *seconds);

/* Fills in what is the same for all verbs: version, options, ranks, backend, memory, total time. Collective; free
   with GramRunClear(). */
PetscErrorCode GramRunEnd(MPI_Comm comm, GramBackend backend, GramRun *run);
PetscErrorCode GramRunClear(GramRun *run);

/* A line "name        text" of the summary on standard output. Collective. */
PetscErrorCode GramSay(MPI_Comm comm, const char *name, const char *format, ...);
