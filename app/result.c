#include <stdarg.h>

#include <petsctime.h>

#include "memory.h"
#include "polynomial.h"
#include "progress.h"
#include "result.h"
#include "version.h"

/* values [numbers][q] at x, numbers its value and then its gradient or that alone: += what the polynomial has there */
static void AddPolynomial(const GramKernel *kernel, const PetscReal *tail, PetscInt numbers, PetscInt q,
                          const PetscReal x[], PetscReal p[], PetscReal *values)
{
  const PetscInt n = GramPolynomialSize(kernel->tail_degree, kernel->dim);

  for (PetscInt number = 0; number < numbers; number++) {
    if (!number) GramPolynomialValues(kernel->tail_degree, kernel->dim, x, p);
    else GramPolynomialDerivatives(kernel->tail_degree, kernel->dim, number - 1, x, p);
    for (PetscInt r = 0; r < q; r++) {
      for (PetscInt k = 0; k < n; k++) values[GramAt(number, q, r)] += p[k] * tail[GramAt(k, q, r)];
    }
  }
}

PetscErrorCode GramPredictAt(GramPoints X, const GramKernel *kernel, GramBackend backend, Mat C,
                             const PetscReal *tail, const GramDataset *targets, PetscReal **mean,
                             PetscReal **gradient)
{
  const GramScaling *s   = &targets->scaling;
  const PetscInt     dim = targets->dim, q = s->q, numbers = targets->gradient ? 1 + dim : 1;
  PetscInt           m_local, n;
  PetscReal         *values, *p;
  const char        *name;
  GramPrecision      precision;
  GramBackend        exact = NULL;
  GramPoints         T;
  Mat                K, M;

  PetscFunctionBegin;
  PetscCall(GramBackendGetInfo(backend, &name, NULL, &precision));
  if (precision == GRAM_MIXED) PetscCall(GramBackendCreate(targets->comm, name, GRAM_DOUBLE, &exact));
  PetscCall(GramPointsCreate(targets->comm, dim, targets->n_local, targets->x, kernel->length_scale, 1, &T));
  PetscCall(GramPointsGetSizes(T, NULL, NULL, NULL, &m_local, NULL));
  PetscCall(GramPointsGetSizes(X, NULL, NULL, &n, NULL, NULL));
  PetscCall(GramMatCreateCross(T, targets->gradient ? GRAM_JOINT : GRAM_VALUE, X, kernel,
                               exact ? exact : backend, &K));
  PetscCall(GramProgressBegin("predict", (PetscReal)m_local * (PetscReal)n * (PetscReal)GramMatPasses(q)));
  PetscCall(MatMatMult(K, C, MAT_INITIAL_MATRIX, PETSC_DEFAULT, &M));
  PetscCall(GramProgressEnd());
  PetscCall(PetscMalloc1(GramAt(targets->n_local, numbers * q, 0), &values));
  PetscCall(PetscMalloc1(GramAt(targets->n_local, q, 0), mean));
  *gradient = NULL;
  if (targets->gradient) PetscCall(PetscMalloc1(GramAt(targets->n_local, dim * q, 0), gradient));
  PetscCall(PetscMalloc1(GramPolynomialSize(kernel->tail_degree, dim), &p));
  PetscCall(GramPanelToInput(T, numbers, M, values));
  for (PetscInt i = 0; i < targets->n_local; i++) {
    PetscReal *at = values + GramAt(i, numbers * q, 0);

    if (tail) AddPolynomial(kernel, tail, numbers, q, targets->x + GramAt(i, dim, 0), p, at);
    for (PetscInt r = 0; r < q; r++) {
      (*mean)[GramAt(i, q, r)] = s->value_shift[r] + s->value_scale[r] * at[r];
      for (PetscInt c = 0; c < dim && *gradient; c++)
        (*gradient)[GramAt(i, dim * q, c * q + r)] =
            s->value_scale[r] / s->point_scale[c] * at[GramAt(1 + c, q, r)];
    }
  }
  PetscCall(PetscFree(p));
  PetscCall(PetscFree(values));
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
