#include <math.h>
#include <string.h>

#include "memory.h"
#include "progress.h"
#include "result.h"
#include "rule.h"
#include "share.h"

#define SAMPLED_ALPHA \
  1e-12 /* times amplitude^2: means over samples are double's, which no ridge at all would blow up */

/* one number for all coordinates, or one each */
static PetscErrorCode Bounds(MPI_Comm comm, const char *option, const char *help, PetscInt dim,
                             PetscReal fallback, PetscReal bounds[], PetscBool *set)
{
  PetscInt n = GRAM_MAX_DIM;

  PetscFunctionBegin;
  for (PetscInt k = 0; k < GRAM_MAX_DIM; k++) bounds[k] = k < dim ? fallback : 0;
  PetscOptionsBegin(comm, "nodes_", "The box", NULL);
  PetscCall(PetscOptionsRealArray(option, help, NULL, bounds, &n, set));
  PetscOptionsEnd();
  if (!*set) PetscFunctionReturn(PETSC_SUCCESS);
  GramCheckInput(n == 1 || n == dim, comm,
                 "nodes.%s: %" PetscInt_FMT " numbers, but the nodes have %" PetscInt_FMT " coordinates",
                 option + 1, n, dim);
  for (PetscInt k = n; k < dim; k++) bounds[k] = bounds[0];
  for (PetscInt k = dim; k < GRAM_MAX_DIM; k++) bounds[k] = 0;
  for (PetscInt k = 0; k < dim; k++)
    GramCheckInput(!PetscIsInfOrNanReal(bounds[k]), comm, "nodes.%s: not a finite number", option + 1);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* -nodes_samples: dataset x, and weights where there are some */
static PetscErrorCode SamplesRead(MPI_Comm comm, PetscInt block, GramMeasure *m)
{
  char        path[PETSC_MAX_PATH_LEN] = "";
  long double sum                      = 0;
  PetscReal  *w;
  GramDataset d;

  PetscFunctionBegin;
  PetscOptionsBegin(comm, "nodes_", "The measure", NULL);
  PetscCall(PetscOptionsString("-samples", "HDF5 file with x and optional weights", NULL, path, path,
                               sizeof path, NULL));
  PetscOptionsEnd();
  GramCheckInput(path[0], comm, "nodes.samples: no file given, and nodes.measure is samples");
  PetscCall(GramDatasetReadPoints(comm, "nodes.samples", path, "weights", &d));
  GramCheckInput(d.dim == m->dim, comm,
                 "nodes.samples: '%s' has %" PetscInt_FMT " columns, but the nodes have %" PetscInt_FMT
                 " coordinates",
                 path, d.dim, m->dim);
  GramCheckInput(d.q <= 1, comm,
                 "nodes.samples: dataset 'weights' of '%s' has %" PetscInt_FMT " columns, not 1", path, d.q);
  GramCheckInput((PetscReal)d.n * (PetscReal)d.dim < (PetscReal)PETSC_MPI_INT_MAX, comm,
                 "nodes.samples: %" PetscInt_FMT " samples of %" PetscInt_FMT " coordinates are too many",
                 d.n, d.dim);
  m->n_samples = d.n;
  PetscCall(PetscMalloc1(d.n_local, &w));
  for (PetscInt i = 0; i < d.n_local; i++) w[i] = d.q ? d.y[i] : 1;
  PetscCall(PetscMalloc1(GramAt(d.n, d.dim, 0), &m->x));
  PetscCall(PetscMalloc1(d.n, &m->charge));
  PetscCall(GramAllGather(comm, d.n_local, d.dim, d.x, m->x));
  PetscCall(GramAllGather(comm, d.n_local, 1, w, m->charge));
  for (PetscInt i = 0; i < d.n; i++) sum += m->charge[i]; /* in order: the same on any number of ranks */
  for (PetscInt i = 0; i < d.n; i++) {
    GramCheckInput(m->charge[i] >= 0, comm,
                   "nodes.samples: dataset 'weights' row %" PetscInt_FMT " is %.6g, not >= 0", i,
                   (double)m->charge[i]);
    m->charge[i] /= (PetscReal)sum;
  }
  GramCheckInput(sum > 0, comm, "nodes.samples: dataset 'weights' of '%s' sums to %Lg", path, sum);
  PetscCall(GramPointsCreate(comm, d.dim, d.n_local, d.x, NULL, block, &m->samples));
  {
    PetscInt n;

    PetscCall(GramPointsGetSizes(m->samples, NULL, NULL, NULL, &n, NULL));
    PetscCall(PetscMalloc1(n, &m->weights));
    PetscCall(GramPointsToCurve(m->samples, 1, w, m->weights));
  }
  PetscCall(PetscFree(w));
  PetscCall(GramDatasetClear(&d));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMeasureFromOptions(MPI_Comm comm, PetscInt dim, PetscInt block, GramMeasure *m)
{
  char      name[32] = "uniform";
  PetscBool uniform, samples, lower, upper, named;

  PetscFunctionBegin;
  PetscCall(PetscMemzero(m, sizeof *m));
  m->dim = dim;
  PetscOptionsBegin(comm, "nodes_", "The measure", NULL);
  PetscCall(PetscOptionsString("-measure", "uniform (on the box), samples (of a file)", NULL, name, name,
                               sizeof name, NULL));
  PetscOptionsEnd();
  PetscCall(PetscStrcmp(name, "uniform", &uniform));
  PetscCall(PetscStrcmp(name, "samples", &samples));
  GramCheckInput(uniform || samples, comm, "nodes.measure: '%s' is none of uniform, samples", name);
  PetscCall(
      Bounds(comm, "-lower", "Lower bounds: one number, or one per coordinate", dim, 0, m->lower, &lower));
  PetscCall(Bounds(comm, "-upper", "Upper bounds", dim, 1, m->upper, &upper));
  PetscCall(PetscOptionsHasName(NULL, NULL, "-nodes_samples", &named));
  GramCheckInput(samples || !named, comm, "nodes.samples: given, but nodes.measure is uniform");
  if (samples) PetscCall(SamplesRead(comm, block, m));
  for (PetscInt k = 0; k < dim && samples; k++) {
    PetscReal least = PETSC_MAX_REAL, most = -PETSC_MAX_REAL;

    for (PetscInt i = 0; i < m->n_samples; i++) {
      least = PetscMin(least, m->x[GramAt(i, dim, k)]);
      most  = PetscMax(most, m->x[GramAt(i, dim, k)]);
    }
    if (!lower) m->lower[k] = least;
    if (!upper) m->upper[k] = most;
    GramCheckInput(m->lower[k] <= least && most <= m->upper[k], comm,
                   "nodes.samples: %.6g ... %.6g in coordinate %" PetscInt_FMT
                   ", beyond nodes.lower %.6g, nodes.upper %.6g",
                   (double)least, (double)most, k, (double)m->lower[k], (double)m->upper[k]);
  }
  for (PetscInt k = 0; k < dim; k++)
    GramCheckInput(m->lower[k] < m->upper[k], comm,
                   "nodes.lower: %.6g of coordinate %" PetscInt_FMT " is not below nodes.upper %.6g",
                   (double)m->lower[k], k, (double)m->upper[k]);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMeasureWrite(GramH5 file, const GramMeasure *m)
{
  PetscFunctionBegin;
  PetscCall(GramH5WriteString(file, "measure", "type", m->n_samples ? "samples" : "uniform"));
  PetscCall(GramH5WriteReals(file, "measure", "lower", m->dim, m->lower));
  PetscCall(GramH5WriteReals(file, "measure", "upper", m->dim, m->upper));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMeasureClear(GramMeasure *m)
{
  PetscFunctionBegin;
  PetscCall(GramPointsDestroy(&m->samples));
  PetscCall(GramBackendDestroy(&m->exact));
  PetscCall(PetscFree(m->x));
  PetscCall(PetscFree(m->charge));
  PetscCall(PetscFree(m->weights));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMeasureMean(MPI_Comm comm, GramMeasure *m, const GramKernel *kernel, GramBackend backend,
                               GramMean *mean)
{
  const char *name;
  PetscMPIInt size;

  PetscFunctionBegin;
  PetscCall(GramBackendGetInfo(backend, &name, NULL, NULL));
  PetscCall(GramBackendCreate(comm, name, GRAM_DOUBLE, &m->exact));
  if (m->n_samples) { /* n^2 / 2 pairs: samples by the million take a while */
    PetscCallMPI(MPI_Comm_size(comm, &size));
    PetscCall(GramProgressBegin("means", (PetscReal)m->n_samples * (PetscReal)m->n_samples / 2 / size));
    PetscCall(GramMeanCreateSamples(comm, kernel, m->exact, m->samples, m->weights, mean));
    PetscCall(GramProgressEnd());
  } else PetscCall(GramMeanCreateBox(comm, kernel, m->lower, m->upper, mean));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramRuleFromOptions(MPI_Comm comm, PetscInt n, PetscBool sampled, GramKernel *kernel,
                                   GramRuleOptions *o)
{
  char      name[32] = "optimal";
  int       method   = 0;
  PetscBool set;

  PetscFunctionBegin;
  *o = (GramRuleOptions){0};
  PetscOptionsBegin(comm, "weights_", "Weights", NULL);
  PetscCall(
      PetscOptionsString("-method", "optimal, equal, nonnegative", NULL, name, name, sizeof name, NULL));
  PetscCall(PetscOptionsBool("-sum_to_one", "Of optimal and nonnegative weights", NULL, o->sum_to_one,
                             &o->sum_to_one, NULL));
  PetscOptionsEnd();
  while (GramWeightsMethodName(method) && strcmp(name, GramWeightsMethodName(method)) != 0) method++;
  GramCheckInput(GramWeightsMethodName(method), comm,
                 "weights.method: '%s' is none of optimal, equal, nonnegative", name);
  o->method = (GramWeightsMethod)method;
  PetscCall(PetscOptionsHasName(NULL, NULL, "-ridge_alpha", &set));
  o->automatic = (PetscBool)!set;
  if (!set && n <= GRAM_EXTENDED_MOST)
    kernel->alpha = sampled ? SAMPLED_ALPHA * kernel->amplitude * kernel->amplitude : 0;
  GramCheckInput(kernel->tail_degree < 0 || GramRadialGetInfo(kernel->radial)->order > 0, comm,
                 "tail.degree: %" PetscInt_FMT ", but quadrature has no tail", kernel->tail_degree);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramRuleEstimate(MPI_Comm comm, GramBackend backend, const GramKernel *kernel,
                                const GramRuleOptions *options, PetscInt n, PetscLogDouble sweep_bytes,
                                GramRun *run)
{
  char line[256];

  PetscFunctionBegin;
  PetscCall(GramMemoryCheck(comm, n, sweep_bytes, "nodes", &run->predicted_memory_bytes, line, sizeof line));
  if (n > GRAM_EXTENDED_MOST && options->method != GRAM_WEIGHTS_EQUAL)
    PetscCall(GramSolveEstimate(comm, backend, kernel, n, 0, 1, PETSC_FALSE, &run->predicted_memory_bytes,
                                NULL, line, sizeof line));
  PetscCall(GramSay(comm, "estimate", "%s", line));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscLogDouble GramRuleBytes(PetscInt n, PetscInt dim, PetscInt n_history)
{
  return 8.0 * ((PetscLogDouble)n * (dim + 1) + n_history);
}

PetscErrorCode GramRuleWrite(GramH5 file, GramPoints X, PetscInt n_local, const PetscReal *x,
                             const PetscReal *w, const GramKernel *kernel, const GramRule *rule)
{
  const PetscReal negative = (PetscReal)rule->negative;
  const struct {
    const char *name;
    PetscReal   value;
  } numbers[] = {{"wce_squared", rule->wce_squared},
                 {"wce_squared_equal", rule->wce_squared_equal},
                 {"wce_squared_error", rule->wce_squared_error},
                 {"weights_sum", rule->sum},
                 {"weights_least", rule->least},
                 {"weights_negative", negative}};
  PetscReal *input;

  PetscFunctionBegin;
  PetscCall(PetscMalloc1(n_local, &input));
  PetscCall(GramPointsToInput(X, 1, w, input));
  PetscCall(GramH5WriteRows(file, "x", 2, n_local, kernel->dim, x));
  PetscCall(GramH5WriteRows(file, "weights", 1, n_local, 1, input));
  for (size_t i = 0; i < PETSC_STATIC_ARRAY_LENGTH(numbers); i++)
    PetscCall(GramH5WriteReals(file, "", numbers[i].name, 0, &numbers[i].value));
  PetscCall(GramKernelWrite(file, kernel));
  PetscCall(PetscFree(input));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramRuleSay(MPI_Comm comm, const GramRule *rule)
{
  PetscFunctionBegin;
  if (rule->raised)
    PetscCall(GramSay(comm, "ridge", "%.3g, raised to what weights can be solved with", (double)rule->alpha));
  PetscCall(GramSay(comm, "weights", "sum %.9g, least %.3g, %" PetscInt_FMT " negative", (double)rule->sum,
                    (double)rule->least, rule->negative));
  PetscCall(GramSay(comm, "error", "wce^2 %.6g, equal weights %.6g, rounding %.1e (%s)",
                    (double)rule->wce_squared, (double)rule->wce_squared_equal,
                    (double)rule->wce_squared_error, rule->extended ? "extended precision" : "double"));
  if (!PetscIsNanReal(rule->relative_residual))
    PetscCall(GramSay(comm, "residual", "%.3e relative, %" PetscInt_FMT " iterations (%s)",
                      (double)rule->relative_residual, rule->iterations, rule->reason));
  if (!rule->converged)
    PetscCall(PetscFPrintf(comm, stderr,
                           "gramarye: warning: weights: not converged (%s): raise ridge.alpha%s\n",
                           rule->reason, PetscIsNanReal(rule->relative_residual) ? "" : ", or ksp.max_it"));
  else if (PetscAbsReal(rule->wce_squared) < rule->wce_squared_error)
    PetscCall(PetscFPrintf(comm, stderr,
                           "gramarye: warning: wce_squared %.1e is below its rounding error %.1e\n",
                           (double)rule->wce_squared, (double)rule->wce_squared_error));
  PetscFunctionReturn(PETSC_SUCCESS);
}
