#include <stdarg.h>

#include <petsctime.h>

#include "memory.h"
#include "polynomial.h"
#include "progress.h"
#include "result.h"
#include "variance.h"
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

/* Of the chunk at hand, in original units: mean [n_local][q]; gradient [n_local][dim][q] unless NULL */
static PetscErrorCode Mean(const GramFit *fit, GramBackend backend, const GramTargets *targets, GramPoints T,
                           PetscReal *mean, PetscReal *gradient)
{
  const GramDataset *d   = &targets->rows;
  const GramScaling *s   = &d->scaling;
  const PetscInt     dim = s->dim, q = s->q, numbers = gradient ? 1 + dim : 1;
  PetscReal         *values, *p;
  Mat                K, M;

  PetscFunctionBegin;
  PetscCall(GramMatCreateCross(T, gradient ? GRAM_JOINT : GRAM_VALUE, fit->X, fit->kernel, backend, &K));
  PetscCall(MatMatMult(K, fit->C, MAT_INITIAL_MATRIX, PETSC_DEFAULT, &M));
  PetscCall(PetscMalloc1(GramAt(d->n_local, numbers * q, 0), &values));
  PetscCall(PetscMalloc1(GramPolynomialSize(fit->kernel->tail_degree, dim), &p));
  PetscCall(GramPanelToInput(T, numbers, M, values));
  for (PetscInt i = 0; i < d->n_local; i++) {
    PetscReal *at = values + GramAt(i, numbers * q, 0);

    if (fit->tail) AddPolynomial(fit->kernel, fit->tail, numbers, q, d->x + GramAt(i, dim, 0), p, at);
    for (PetscInt r = 0; r < q; r++) {
      mean[GramAt(i, q, r)] = s->value_shift[r] + s->value_scale[r] * at[r];
      for (PetscInt c = 0; c < dim && gradient; c++)
        gradient[GramAt(i, dim * q, c * q + r)] =
            s->value_scale[r] / s->point_scale[c] * at[GramAt(1 + c, q, r)];
    }
  }
  PetscCall(PetscFree(p));
  PetscCall(PetscFree(values));
  PetscCall(MatDestroy(&M));
  PetscCall(MatDestroy(&K));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Of the chunk at hand, in original units: variance [n_local][q] */
static PetscErrorCode Variance(const GramFit *fit, GramBackend backend, const GramTargets *targets,
                               GramPoints T, PetscReal *variance, PetscInt *missed)
{
  const GramScaling *s = &targets->rows.scaling;
  PetscInt           n, m;
  PetscReal         *curve, *v;

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(T, NULL, NULL, NULL, &n, NULL));
  PetscCall(PetscMalloc2(n, &curve, targets->rows.n_local, &v));
  PetscCall(GramVarianceAt(fit->solver, backend, T, curve, &m));
  PetscCall(GramPointsToInput(T, 1, curve, v));
  for (PetscInt i = 0; i < targets->rows.n_local; i++) {
    for (PetscInt r = 0; r < s->q; r++) variance[GramAt(i, s->q, r)] = PetscSqr(s->value_scale[r]) * v[i];
  }
  *missed += m;
  PetscCall(PetscFree2(curve, v));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPredict(const GramFit *fit, GramTargets *targets, GramH5 file, GramPrediction *prediction)
{
  const GramScaling *s = &targets->rows.scaling;
  const PetscInt     q = s->q;
  PetscReal         *mean, *gradient, *variance, *sums, work;
  PetscInt           n, most;
  PetscMPIInt        size;
  const char        *name;
  GramPrecision      precision;
  GramBackend        exact = NULL;
  GramPoints         T;

  PetscFunctionBegin;
  *prediction = (GramPrediction){0};
  PetscCall(GramBackendGetInfo(fit->backend, &name, NULL, &precision));
  if (precision == GRAM_MIXED) PetscCall(GramBackendCreate(targets->rows.comm, name, GRAM_DOUBLE, &exact));
  PetscCallMPI(MPI_Comm_size(targets->rows.comm, &size));
  PetscCall(GramPointsGetSizes(fit->X, NULL, NULL, &n, NULL, NULL));
  most = targets->chunk / size + 1; /* rows of this rank */
  work = (PetscReal)targets->n / size * (PetscReal)n * (PetscReal)GramMatPasses(q);
  PetscCall(PetscMalloc4(GramAt(most, q, 0), &mean, targets->gradient ? GramAt(most, s->dim * q, 0) : 0,
                         &gradient, targets->variance ? GramAt(most, q, 0) : 0, &variance, 2 * q, &sums));
  PetscCall(PetscArrayzero(sums, 2 * q));
  PetscCall(GramPredictionCreate(file, targets));
  PetscCall(GramProgressBegin("predict", targets->variance ? 0 : work));
  for (PetscInt at = 0; at < targets->n; at += targets->chunk) {
    PetscCall(GramTargetsRead(targets, at));
    PetscCall(GramPointsCreate(targets->rows.comm, s->dim, targets->rows.n_local, targets->rows.x,
                               fit->kernel->length_scale, 1, &T));
    PetscCall(Mean(fit, exact ? exact : fit->backend, targets, T, mean, targets->gradient ? gradient : NULL));
    if (targets->variance)
      PetscCall(Variance(fit, exact ? exact : fit->backend, targets, T, variance, &prediction->missed));
    PetscCall(GramPointsDestroy(&T));
    PetscCall(GramPredictionWrite(file, targets, mean, targets->gradient ? gradient : NULL,
                                  targets->variance ? variance : NULL, sums));
    if (targets->variance)
      PetscCall(GramProgressUpdate((PetscReal)(at + targets->rows.n) / (PetscReal)targets->n, "variances"));
  }
  PetscCall(GramProgressEnd());
  PetscCall(GramPredictionErrors(file, targets, sums, &prediction->rmse, &prediction->mae));
  PetscCall(PetscFree4(mean, gradient, variance, sums));
  PetscCall(GramBackendDestroy(&exact));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPredictSay(const GramTargets *targets, const GramPrediction *p)
{
  MPI_Comm comm = targets->rows.comm;

  PetscFunctionBegin;
  if (!targets->n) PetscFunctionReturn(PETSC_SUCCESS);
  if (PetscIsNanReal(p->rmse))
    PetscCall(GramSay(comm, "prediction", "%" PetscInt_FMT " targets", targets->n));
  else
    PetscCall(GramSay(comm, "prediction", "%" PetscInt_FMT " targets, rmse %.6g, mae %.6g", targets->n,
                      (double)p->rmse, (double)p->mae));
  if (p->missed)
    PetscCall(
        PetscFPrintf(comm, stderr,
                     "gramarye: warning: target.variance: %" PetscInt_FMT " of %" PetscInt_FMT
                     " are not good to %g, but too large: raise ridge.alpha, or take solve.method direct\n",
                     p->missed, targets->n, GRAM_VARIANCE_RTOL));
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
  run->variance_missed   = -1;
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
