#include <math.h>

#include "gram_mat.h"
#include "mean.h"

#if defined(GRAM_HAVE_QUAD)
  #include <quadmath.h>
#endif

#define FAR       1e6 /* diagonals of the box within which its means are good to rounding */
#define LOG_GUARD 4   /* further down than rounding, for constants in the bounds of step and range */

typedef struct {
  PetscInt         dim;
  const PetscReal *lower, *upper, *length_scale;
} Box;

/* A profile as a sum of Gaussians, by the trapezoid rule with nodes d = j step, j = first ... last. */
typedef struct {
  PetscReal order;   /* nu or b */
  PetscBool inverse; /* g falls with d, as 1 / t: matern */
  PetscReal step;
  PetscInt  first, last; /* for gradients; means need those from value on */
  PetscInt  value;
  PetscBool closed; /* Gaussians below first are 1 and summed in one */
} Mixture;

#define MEAN(name)   name##_Working
#define MEAN_REAL    PetscReal
#define MEAN_F(name) name
#define MEAN_C(x)    x
#define MEAN_LOG_MAX 750
#include "mean_impl.h"

#if defined(GRAM_HAVE_QUAD)
  #define MEAN(name)   name##_Quad
  #define MEAN_REAL    __float128
  #define MEAN_F(name) name##q
  #define MEAN_C(x)    x##Q
  #define MEAN_LOG_MAX 11400
  #include "mean_impl.h"
#else
typedef Nodes_Working Nodes_Quad;
#endif

struct _p_GramMean {
  GramKernel    kernel;
  PetscReal     twice, twice_lo, error, pairs_error; /* I, and relative errors of it and z */
  PetscReal    *lower, *upper;                       /* of a box, else NULL */
  Box           box;
  Nodes_Working nodes;
  Nodes_Quad    quad;
  GramBackend   backend; /* of samples */
  GramPoints    samples;
  PetscReal    *weights; /* [n_local] */
  PetscReal     extent;  /* largest |x / length_scale| */
};

/* ---- the mixture */

/* log |Gamma(a + i y) / Gamma(a)| by Stirling's formula, from above */
static PetscReal LogDecay(PetscReal a, PetscReal y)
{
  return (a - 0.5) * 0.5 * PetscLogReal(1 + PetscSqr(y / a)) - y * PetscAtan2Real(y, a);
}

/* log of what a Gaussian with its weight adds, at most: to z, or (gradient) to the slope at the walls that decays least.
   Concave in d. wide [dim]: box by length scale */
static PetscReal LogTerm(const Mixture *m, PetscInt dim, const PetscReal wide[], PetscBool gradient,
                         PetscReal d)
{
  PetscReal sum = LogWeight_Working(m->order, d), worst = 0;

  for (PetscInt c = 0; c < dim; c++) {
    const PetscReal factor =
        PetscMin(0, 0.5 * ((m->inverse ? d : -d) + PetscLogReal(2 * PETSC_PI)) - PetscLogReal(wide[c]));

    sum += factor;
    worst = PetscMin(worst, factor);
  }
  return gradient ? sum - worst : sum;
}

/* j = first ... last where terms are above rounding, none of them below least */
static void Range(const Mixture *m, PetscInt dim, const PetscReal wide[], PetscBool gradient,
                  PetscReal log_eps, PetscInt least, PetscInt *first, PetscInt *last)
{
  PetscInt  j = 0;
  PetscReal top;

#define TERM(k) LogTerm(m, dim, wide, gradient, (PetscReal)(k)*m->step)
  while (TERM(j + 1) > TERM(j)) j++;
  while (TERM(j - 1) > TERM(j)) j--;
  top    = TERM(j);
  *first = *last = PetscMax(j, least);
  while (*first > least && TERM(*first) > top + log_eps) --*first;
  while (TERM(*last) > top + log_eps) ++*last;
#undef TERM
}

/* for numbers whose rounding error is exp(log_eps) */
static void MixtureChoose(const GramKernel *kernel, const Box *box, PetscReal log_eps, Mixture *m)
{
  const PetscInt twonu = GramRadialGetInfo(kernel->radial)->twonu;
  PetscReal      wide[GRAM_MAX_DIM], square = 0, y = 1;
  PetscInt       last, least = PETSC_MIN_INT / 2;

  *m = (Mixture){.inverse = (PetscBool)(twonu > 0), .order = 0.5};
  if (kernel->radial == GRAM_RADIAL_GAUSSIAN) { /* nu = infinity: d = 0 alone, exp(-r^2 / 2) */
    m->order = PETSC_MAX_REAL;
    m->step  = 1;
    return;
  }
  if (twonu) m->order = twonu / 2.0;
  if (kernel->radial == GRAM_RADIAL_RATIONAL_QUADRATIC) m->order = kernel->beta;
  for (PetscInt c = 0; c < box->dim; c++) {
    wide[c] = (box->upper[c] - box->lower[c]) / box->length_scale[c];
    square += PetscSqr(wide[c]);
  }
  log_eps -= LOG_GUARD;
  while (LogDecay(m->order + (m->inverse ? box->dim / 2.0 : 0), y) > log_eps) y *= 1.01;
  m->step = 2 * PETSC_PI / y;
  if (!m->inverse) /* e^-t exp(-g r^2) = 1 below */
    least = (PetscInt)PetscFloorReal((log_eps - PetscLogReal(m->order + FAR * FAR * square)) / m->step);
  Range(m, box->dim, wide, PETSC_FALSE, log_eps, least, &m->value, &m->last);
  Range(m, box->dim, wide, PETSC_TRUE, log_eps, least, &m->first, &last);
  m->first  = PetscMin(m->first, m->value);
  m->last   = PetscMax(m->last, last);
  m->closed = (PetscBool)(m->first == least);
}

/* ---- create */

static PetscErrorCode Create(MPI_Comm comm, const GramKernel *kernel, const char *measure, PetscBool compact,
                             GramMean *mean)
{
  const GramRadialInfo *profile = GramRadialGetInfo(kernel->radial);

  PetscFunctionBegin;
  *mean = NULL;
  GramCheckInput(
      !profile->order, comm,
      "nodes.measure: %s is positive definite only against polynomials and has no worst-case error",
      kernel->type);
  GramCheckInput(compact || !(profile->support > 0), comm,
                 "nodes.measure: %s has no kernel mean for %s; take samples", measure, kernel->type);
  PetscCall(PetscNew(mean));
  (*mean)->kernel           = *kernel;
  (*mean)->kernel.alpha     = 0;
  (*mean)->kernel.gradients = PETSC_FALSE;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMeanCreateBox(MPI_Comm comm, const GramKernel *kernel, const PetscReal lower[],
                                 const PetscReal upper[], GramMean *mean)
{
  const PetscReal square = PetscSqr(kernel->amplitude);
  Mixture         mixture;
  GramMean        m;

  PetscFunctionBegin;
  PetscCall(Create(comm, kernel, "uniform", PETSC_FALSE, mean));
  m = *mean;
  PetscCall(PetscMalloc2(kernel->dim, &m->lower, kernel->dim, &m->upper));
  PetscCall(PetscArraycpy(m->lower, lower, kernel->dim));
  PetscCall(PetscArraycpy(m->upper, upper, kernel->dim));
  for (PetscInt c = 0; c < kernel->dim; c++)
    PetscAssert(lower[c] < upper[c], comm, PETSC_ERR_ARG_OUTOFRANGE, "no box in coordinate %" PetscInt_FMT,
                c);
  m->box = (Box){kernel->dim, m->lower, m->upper, m->kernel.length_scale};
  MixtureChoose(kernel, &m->box, PetscLogReal(0x1p-53), &mixture);
  PetscCall(NodesCreate_Working(&mixture, &m->nodes));
  m->twice = square * MeanOfMean_Working(&m->nodes, &m->box);
  m->error = 0x1p-53 * (PetscReal)(8 * kernel->dim + m->nodes.n + 32);
#if defined(GRAM_HAVE_QUAD)
  {
    __float128 twice;

    MixtureChoose(kernel, &m->box, PetscLogReal(0x1p-113), &mixture);
    PetscCall(NodesCreate_Quad(&mixture, &m->quad));
    twice       = (__float128)kernel->amplitude * kernel->amplitude * MeanOfMean_Quad(&m->quad, &m->box);
    m->twice    = (PetscReal)twice;
    m->twice_lo = (PetscReal)(twice - m->twice);
  }
  /* the last two of 113 bits do not go into a pair of doubles */
  m->pairs_error = 0x1p-113 * (PetscReal)(8 * kernel->dim + m->quad.n + 32) + 0x1p-106;
#else
  m->pairs_error = m->error;
#endif
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* of the weights of all ranks, all of them a measure */
static PetscErrorCode Sum(MPI_Comm comm, PetscInt n, PetscInt all, const PetscReal weights[], PetscReal *sum)
{
  PetscReal sums[2] = {0, 0}; /* and how many are wrong */

  PetscFunctionBegin;
  for (PetscInt i = 0; i < n; i++) {
    const PetscReal w = weights ? weights[i] : 1;

    sums[0] += w;
    sums[1] += !(w >= 0 && w <= PETSC_MAX_REAL);
  }
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, sums, 2, MPIU_REAL, MPI_SUM, comm));
  GramCheckInput(sums[1] == 0, comm,
                 "nodes.samples: %.0f of %" PetscInt_FMT " weights are negative or not finite",
                 (double)sums[1], all);
  GramCheckInput(sums[0] > 0 && sums[0] <= PETSC_MAX_REAL, comm, "nodes.samples: the weights sum to %g",
                 (double)sums[0]);
  *sum = sums[0];
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* y = K w for the weights on the columns of K */
static PetscErrorCode Product(GramMean m, Mat K, Vec *w, Vec *y)
{
  PetscInt     n;
  PetscScalar *a;

  PetscFunctionBegin;
  PetscCall(MatCreateVecs(K, w, y));
  PetscCall(VecGetLocalSize(*w, &n));
  PetscCall(VecGetArrayWrite(*w, &a));
  PetscCall(PetscArraycpy(a, m->weights, n));
  PetscCall(VecRestoreArrayWrite(*w, &a));
  PetscCall(GramMatSetTolerance(K, 0));
  PetscCall(MatMult(K, *w, *y));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMeanCreateSamples(MPI_Comm comm, const GramKernel *kernel, GramBackend backend,
                                     GramPoints samples, const PetscReal weights[], GramMean *mean)
{
  const PetscReal *x;
  PetscInt         n, all;
  PetscReal        sum = 0;
  GramPrecision    precision;
  GramMean         m;
  Mat              K;
  Vec              w, y;

  PetscFunctionBegin;
  *mean = NULL;
  PetscCall(GramPointsGetSizes(samples, NULL, NULL, &all, &n, NULL));
  PetscCall(Sum(comm, n, all, weights, &sum));
  PetscCall(Create(comm, kernel, "samples", PETSC_TRUE, mean));
  m          = *mean;
  m->backend = backend;
  m->samples = samples;
  PetscCall(PetscMalloc1(n, &m->weights));
  for (PetscInt i = 0; i < n; i++) m->weights[i] = (weights ? weights[i] : 1) / sum;
  PetscCall(GramPointsGetArrayRead(samples, &x));
  for (PetscInt i = 0; i < n; i++) {
    for (PetscInt c = 0; c < kernel->dim; c++)
      m->extent = PetscMax(m->extent, PetscAbsReal(x[GramAt(i, kernel->dim, c)]) / kernel->length_scale[c]);
  }
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &m->extent, 1, MPIU_REAL, MPI_MAX, comm));
  PetscCall(GramMatCreate(samples, &m->kernel, backend, &K));
  PetscCall(Product(m, K, &w, &y));
  PetscCall(VecDot(w, y, &m->twice));
  PetscCall(VecDestroy(&w));
  PetscCall(VecDestroy(&y));
  PetscCall(MatDestroy(&K));
  PetscCall(GramBackendGetInfo(backend, NULL, NULL, &precision));
  m->error = (precision == GRAM_DOUBLE ? 0x1p-53 : 0x1p-24) *
             (64 + 8 * m->extent + 2 * PetscSqrtReal((PetscReal)all));
  m->pairs_error = m->error;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMeanDestroy(GramMean *mean)
{
  GramMean m = *mean;

  PetscFunctionBegin;
  if (!m) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscFree2(m->nodes.g, m->nodes.w));
  PetscCall(PetscFree2(m->quad.g, m->quad.w));
  PetscCall(PetscFree2(m->lower, m->upper));
  PetscCall(PetscFree(m->weights));
  PetscCall(PetscFree(*mean));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- evaluate */

static PetscErrorCode CheckBox(GramMean m)
{
  PetscFunctionBegin;
  PetscCheck(m->lower, PETSC_COMM_SELF, PETSC_ERR_SUP,
             "means over samples take all ranks: GramMeanEvaluate()");
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMeanAt(GramMean m, PetscInt n, const PetscReal x[], PetscReal z[], PetscReal gradient[])
{
  const PetscReal square = PetscSqr(m->kernel.amplitude);
  const PetscInt  dim    = m->kernel.dim;

  PetscFunctionBegin;
  PetscCall(CheckBox(m));
  for (PetscInt i = 0; i < n; i++) {
    PetscReal *g = gradient ? gradient + GramAt(i, dim, 0) : NULL;

    z[i] = square * Mean_Working(&m->nodes, &m->box, x + GramAt(i, dim, 0), g);
    for (PetscInt c = 0; c < dim && g; c++) g[c] *= square;
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMeanAtPairs(GramMean m, PetscInt n, const PetscReal x[], PetscReal hi[], PetscReal lo[])
{
  PetscFunctionBegin;
  PetscCall(CheckBox(m));
#if defined(GRAM_HAVE_QUAD)
  for (PetscInt i = 0; i < n; i++) {
    const __float128 z = (__float128)m->kernel.amplitude * m->kernel.amplitude *
                         Mean_Quad(&m->quad, &m->box, x + GramAt(i, m->kernel.dim, 0), NULL);

    hi[i] = (PetscReal)z;
    lo[i] = (PetscReal)(z - hi[i]);
  }
#else
  PetscCall(GramMeanAt(m, n, x, hi, NULL));
  PetscCall(PetscArrayzero(lo, n));
#endif
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMeanEvaluate(GramMean m, GramPoints X, PetscReal z[], PetscReal gradient[])
{
  const PetscInt     numbers = gradient ? 1 + m->kernel.dim : 1;
  const PetscReal   *x;
  const PetscScalar *a;
  PetscInt           n;
  Mat                K;
  Vec                w, y;

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(X, NULL, NULL, NULL, &n, NULL));
  if (m->lower) {
    PetscCall(GramPointsGetArrayRead(X, &x));
    PetscCall(GramMeanAt(m, n, x, z, gradient));
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  PetscCall(
      GramMatCreateCross(X, gradient ? GRAM_JOINT : GRAM_VALUE, m->samples, &m->kernel, m->backend, &K));
  PetscCall(Product(m, K, &w, &y));
  PetscCall(VecGetArrayRead(y, &a));
  for (PetscInt i = 0; i < n; i++) {
    z[i] = a[GramAt(i, numbers, 0)];
    for (PetscInt c = 1; c < numbers; c++) gradient[GramAt(i, numbers - 1, c - 1)] = a[GramAt(i, numbers, c)];
  }
  PetscCall(VecRestoreArrayRead(y, &a));
  PetscCall(VecDestroy(&w));
  PetscCall(VecDestroy(&y));
  PetscCall(MatDestroy(&K));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMeanIsSampled(GramMean mean, PetscBool *sampled)
{
  PetscFunctionBegin;
  *sampled = (PetscBool)(mean->samples != NULL);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMeanGetDouble(GramMean m, PetscReal *twice)
{
  PetscFunctionBegin;
  *twice = m->twice;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMeanGetDoublePair(GramMean m, PetscReal *hi, PetscReal *lo)
{
  PetscFunctionBegin;
  *hi = m->twice;
  *lo = m->twice_lo;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMeanGetErrors(GramMean m, PetscBool pairs, PetscInt n, const PetscReal x[],
                                 const PetscReal z[], PetscReal error[], PetscReal *twice)
{
  const PetscReal relative             = pairs ? m->pairs_error : m->error;
  const PetscInt  dim                  = m->kernel.dim;
  PetscReal       inside[GRAM_MAX_DIM] = {0}, largest;

  PetscFunctionBegin;
  for (PetscInt i = 0; i < n; i++) {
    PetscBool out = PETSC_FALSE;

    for (PetscInt c = 0; c < dim && m->lower; c++) {
      inside[c] = PetscMin(PetscMax(x[GramAt(i, dim, c)], m->lower[c]), m->upper[c]);
      out       = (PetscBool)(out || inside[c] != x[GramAt(i, dim, c)]);
    }
    largest = z[i];
    if (out) PetscCall(GramMeanAt(m, 1, inside, &largest, NULL));
    error[i] = relative * largest;
  }
  if (twice) *twice = relative * m->twice;
  PetscFunctionReturn(PETSC_SUCCESS);
}
