/* What the verbs share: prediction at targets, and the account of a run in the file and on standard output. */
#pragma once

#include "gram_mat.h"
#include "model.h"

/**
  GramPredictAt - mean[i] = value_shift + value_scale * sum_j k(t'_i, x'_j) C[j], in original units.

  Collective. Answers of mixed solves are good to double: predictions from them are evaluated in double.

  @param[in]  X, C    points of the model and their coefficients, N x q, laid out as X
  @param[in]  targets where, in input order
  @param[out] mean    [n_local][q], rows as in targets; free with PetscFree()
**/
PetscErrorCode GramPredictAt(GramPoints X, const GramKernel *kernel, GramBackend backend, Mat C,
                             const GramDataset *targets, PetscReal **mean);

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
