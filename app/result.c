#include <stdarg.h>

#include <petsctime.h>

#include "memory.h"
#include "progress.h"
#include "result.h"
#include "version.h"

PetscErrorCode GramPredictAt(GramPoints X, const GramKernel *kernel, GramBackend backend, Mat C,
                             const GramDataset *targets, PetscReal **mean)
{
  const GramScaling *s = &targets->scaling;
  PetscInt           m_local, n;
  const char        *name;
  GramPrecision      precision;
  GramBackend        exact = NULL;
  GramPoints         T;
  Mat                K, M;

  PetscFunctionBegin;
  PetscCall(GramBackendGetInfo(backend, &name, NULL, &precision));
  if (precision == GRAM_MIXED) PetscCall(GramBackendCreate(targets->comm, name, GRAM_DOUBLE, &exact));
  PetscCall(GramPointsCreate(targets->comm, targets->dim, targets->n_local, targets->x, kernel->length_scale,
                             1, &T));
  PetscCall(GramPointsGetSizes(T, NULL, NULL, NULL, &m_local, NULL));
  PetscCall(GramPointsGetSizes(X, NULL, NULL, &n, NULL, NULL));
  PetscCall(GramMatCreateCross(T, GRAM_VALUE, X, kernel, exact ? exact : backend, &K));
  PetscCall(GramProgressBegin("predict", (PetscReal)m_local * (PetscReal)n * (PetscReal)GramMatPasses(s->q)));
  PetscCall(MatMatMult(K, C, MAT_INITIAL_MATRIX, PETSC_DEFAULT, &M));
  PetscCall(GramProgressEnd());
  PetscCall(PetscMalloc1((size_t)targets->n_local * (size_t)s->q, mean));
  PetscCall(GramPanelToInput(T, 1, M, *mean));
  for (PetscInt i = 0; i < targets->n_local; i++) {
    for (PetscInt r = 0; r < s->q; r++)
      (*mean)[GramAt(i, s->q, r)] = s->value_shift[r] + s->value_scale[r] * (*mean)[GramAt(i, s->q, r)];
  }
  PetscCall(MatDestroy(&M));
  PetscCall(MatDestroy(&K));
  PetscCall(GramPointsDestroy(&T));
  PetscCall(GramBackendDestroy(&exact));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscLogDouble begun, lap;

PetscErrorCode GramRunBegin(GramRun *run, const char *verb)
{
  PetscFunctionBegin;
  PetscCall(PetscMemzero(run, sizeof *run));
  run->verb              = verb;
  run->converged         = PETSC_TRUE;
  run->exact_from        = -1;
  run->numerical_rank    = -1;
  run->relative_residual = run->backward_error = run->eigenvalue_min = run->eigenvalue_max = NAN;
  PetscCall(PetscTime(&begun));
  lap = begun;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramRunLap(PetscLogDouble *seconds)
{
  PetscLogDouble now;

  PetscFunctionBegin;
  PetscCall(PetscTime(&now));
  *seconds = now - lap;
  lap      = now;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramRunEnd(MPI_Comm comm, GramBackend backend, GramRun *run)
{
  PetscMPIInt    size;
  GramPrecision  precision;
  PetscLogDouble now;
  char          *options;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_size(comm, &size));
  PetscCall(GramBackendGetInfo(backend, &run->backend, NULL, &precision));
  PetscCall(PetscOptionsGetAll(NULL, &options));
  run->version   = GRAM_VERSION;
  run->git       = GRAM_GIT;
  run->options   = options;
  run->precision = GramPrecisionName(precision);
  run->ranks     = size;
  PetscCall(GramMemoryPeak(comm, &run->peak_memory_bytes));
  PetscCall(PetscTime(&now));
  run->total_seconds = now - begun;
  { /* attributes must be the same on all ranks: the slowest one's clocks */
    PetscLogDouble *const clocks[] = {&run->read_seconds, &run->setup_seconds, &run->solve_seconds,
                                      &run->predict_seconds, &run->total_seconds};
    PetscLogDouble        rate     = run->pairs_per_second;

    for (size_t i = 0; i < PETSC_STATIC_ARRAY_LENGTH(clocks); i++) {
      PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, clocks[i], 1, MPI_DOUBLE, MPI_MAX, comm));
    }
    PetscCallMPI(MPI_Allreduce(&rate, &run->pairs_per_second, 1, MPI_DOUBLE, MPI_MIN, comm));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramRunClear(GramRun *run)
{
  char *options = (char *)run->options;

  PetscFunctionBegin;
  PetscCall(PetscFree(options));
  run->options = NULL;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramSay(MPI_Comm comm, const char *name, const char *format, ...)
{
  char    text[1024];
  size_t  length;
  va_list arguments;

  PetscFunctionBegin;
  va_start(arguments, format);
  PetscCall(PetscVSNPrintf(text, sizeof text, format, &length, arguments));
  va_end(arguments);
  PetscCall(PetscPrintf(comm, "%-11s %s\n", name, text));
  PetscFunctionReturn(PETSC_SUCCESS);
}
