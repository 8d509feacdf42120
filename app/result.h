/* What the verbs share: prediction at targets, and the account of a run in the file and on standard output. */
#pragma once

#include "gram_mat.h"
#include "model.h"

/**
  GramPredictAt - The mean of GramModel at targets, and its gradient, in original units.

  Collective. Answers of mixed solves are good to double: predictions from them are evaluated in double.

  @param[in]  X, C    points of the model and their coefficients, laid out as GramMatCreate() of them
  @param[in]  tail    [monomials][q] coefficients of the polynomial, on all ranks; NULL without one
  @param[in]  targets where, in input order
  @param[out] mean    [n_local][q], rows as in targets; free with PetscFree()
  @param[out] gradient [n_local][dim][q] where targets ask for it, else NULL; likewise
**/
PetscErrorCode GramPredictAt(GramPoints X, const GramKernel *kernel, GramBackend backend, Mat C,
                             const PetscReal *tail, const GramDataset *targets, PetscReal **mean,
                             PetscReal **gradient);

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
