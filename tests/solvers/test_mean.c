static const char help[] =
    "Kernel means: of a box against numbers of other formulas, of samples against plain loops.\n";

#include "../check.h"
#include "gram_mat.h"
#include "mean.h"

/* boxes and points x, of the cases below */
static const struct {
  PetscInt  dim;
  PetscReal length_scale[5], lower[5], upper[5], x[5];
} places[] = {
    {1, {0.3}, {-1}, {2}, {0.25}},
    {2, {0.3, 0.7}, {-1, 2}, {1, 2.5}, {0.25, 2.125}},
    {3, {0.4, 2, 0.05}, {0, -3, 1}, {1, 5, 1.25}, {0, 1.5, 1.0625}}, /* on a wall */
    {5, {0.5, 0.6, 0.7, 0.8, 0.9}, {0}, {1, 1, 1, 1, 1}, {0.5, 0.25, 1, 0.125, 0.0625}},
    {2, {0.3, 0.7}, {-1, 2}, {1, 2.5}, {1.5, 1.75}}, /* outside */
    {2, {1e3, 1e2}, {-1, 2}, {1, 2.5}, {0.25, 2.125}},
    {2, {1e-3, 1e-2}, {-1, 2}, {1, 2.5}, {0.25, 2.125}},
    {20, {0}, {0}, {0}, {0}}, /* filled by Place(), length scale 1/2 + i/16, unit box, x_i = i/32 */
};
enum { LINE, PLANE, SPACE, FIVE, OUTSIDE, SMALL, LARGE, TWENTY };

typedef struct {
  GramKernel kernel;
  PetscReal  lower[20], upper[20], x[20];
} Case;

static PetscErrorCode Place(const char *type, PetscReal beta, int where, Case *c)
{
  const PetscInt dim = places[where].dim;
  PetscBool      found;

  PetscFunctionBegin;
  c->kernel = (GramKernel){.dim = dim, .n_length_scale = dim, .amplitude = 1, .alpha = 1e-3};
  PetscCall(GramKernelSetType(&c->kernel, type, NAN, &found));
  CHECK(found, "no kernel %s", type);
  if (!PetscIsNanReal(beta)) c->kernel.beta = beta;
  for (PetscInt i = 0; i < dim; i++) {
    c->kernel.length_scale[i] = where == TWENTY ? 0.5 + i / 16.0 : places[where].length_scale[i];
    c->lower[i]               = where == TWENTY ? 0 : places[where].lower[i];
    c->upper[i]               = where == TWENTY ? 1 : places[where].upper[i];
    c->x[i]                   = where == TWENTY ? i / 32.0 : places[where].x[i];
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* z at x and I as hi + lo, by mpmath 1.3.0 with 34 digits: tanh-sinh quadrature over log t of the mixtures in mean.h,
   compared with quadrature of k itself over the box in the plane; rational_quadratic
   outside and with beta = 1e-6, 1e6 by that alone */
static const struct {
  const char *type;
  PetscReal   beta;
  int         where;
  PetscReal   z, z_lo, twice, twice_lo;
} known[] = {
    {"gaussian", NAN, PLANE, 0.3603130522908229, -1.8093689046571450e-18, 0.31760790731198146,
     2.4429285057809471e-17},
    {"exponential", NAN, PLANE, 0.2670014556643446, 2.0761229176532831e-17, 0.2362386497626654,
     1.3645719712022770e-17},
    {"matern32", NAN, PLANE, 0.3223969324843941, -2.4830943078044223e-17, 0.28487415351704976,
     3.1284280767922708e-18},
    {"matern52", NAN, PLANE, 0.3367627771366021, -8.8137347458208991e-18, 0.2974139862451253,
     1.6211037162753101e-17},
    {"matern72", NAN, PLANE, 0.34326167885740755, 1.5190477985046415e-18, 0.3030514515502812,
     -1.3447586989345327e-17},
    {"matern92", NAN, PLANE, 0.3469530784251367, 9.0879200454729565e-18, 0.3062381088654079,
     2.4077765536536565e-17},
    {"inverse_multiquadric", NAN, PLANE, 0.5574491252564763, 2.1759973657532285e-17, 0.5104352764529974,
     -1.8035291436638842e-18},
    {"rational_quadratic", 2.5, PLANE, 0.41032653808927155, -3.0719635687654862e-18, 0.36032651696477636,
     -4.4496078094923992e-18},
    {"rational_quadratic", 0.01, PLANE, 0.9547929066376898, -1.9153446572724780e-17, 0.9517347513281803,
     -5.1448220270233144e-17},
    {"rational_quadratic", 1e-06, PLANE, 0.9999862033469441, -2.5356269863081619e-17, 0.9999858756023478,
     -3.6424867157650897e-17},
    {"rational_quadratic", 1e+06, PLANE, 0.3603131754159982, -1.0902447656368194e-17, 0.31760800555432916,
     -7.5415590253239650e-18},
    {"rational_quadratic", 10000.0, PLANE, 0.3603253649896918, -1.1779276141885601e-17, 0.3176177318264607,
     -2.4507369987807081e-17},
    {"exponential", NAN, LINE, 0.19815678467061723, 1.1405303671740755e-17, 0.18000090799859525,
     -6.0394169091135553e-18},
    {"exponential", NAN, SPACE, 0.11876543202200977, -3.2507227969552125e-18, 0.12368210675559167,
     3.1962941854586380e-18},
    {"exponential", NAN, FIVE, 0.258985464509547, 1.2769787919600951e-17, 0.2860913954209825,
     -2.3858956653924382e-17},
    {"exponential", NAN, OUTSIDE, 0.025383166655371707, -4.1694504992618312e-19, 0.2362386497626654,
     1.3645719712022770e-17},
    {"matern52", NAN, LINE, 0.2383166103066064, -5.8677510942767904e-18, 0.2185139177741105,
     -1.4343674863898732e-18},
    {"matern52", NAN, SPACE, 0.12941118264167326, -4.8675806813322489e-18, 0.13938935874058436,
     5.2485408761572413e-18},
    {"matern52", NAN, FIVE, 0.34074442144755485, 2.8459778757159817e-18, 0.38302754219061447,
     -2.4276132856531957e-17},
    {"matern52", NAN, OUTSIDE, 0.018127195293817726, 1.2184977272585175e-19, 0.2974139862451253,
     1.6211037162753101e-17},
    {"rational_quadratic", 2.5, LINE, 0.2941484237314983, -2.3236496343269110e-17, 0.2648977833225229,
     1.7425913163906358e-17},
    {"rational_quadratic", 2.5, SPACE, 0.19798435331240874, -4.7628717406713922e-18, 0.20536921319275472,
     5.1304814140632099e-19},
    {"rational_quadratic", 2.5, FIVE, 0.44788483773712323, 1.1175465845496572e-18, 0.48785706357501063,
     -9.8884835822223179e-18},
    {"rational_quadratic", 2.5, OUTSIDE, 0.04146032064899044, -1.4860795491878037e-18, 0.36032651696477636,
     -4.4496078094923992e-18},
    {"exponential", NAN, SMALL, 0.9982654305881956, 3.4818234644714010e-17, 0.9980897706547793,
     -3.8872623757255874e-17},
    {"matern92", NAN, LARGE, 6.283185307177005e-05, -2.5415655707355940e-21, 6.172165412999693e-05,
     -2.3463730218630571e-21},
    {"gaussian", NAN, OUTSIDE, 0.013778402779756421, -5.0919708594413244e-19, 0.31760790731198146,
     2.4429285057809471e-17},
    {"exponential", NAN, TWENTY, 0.10970324387277967, 3.2554494467245377e-18, 0.14300112863061992,
     1.0138790716470068e-17},
    {"inverse_multiquadric", NAN, LARGE, 0.005157289706492658, 1.4609656268388397e-19, 0.004829708018653741,
     -4.5477305718427567e-20},
    {"rational_quadratic", 0.01, OUTSIDE, 0.9324591417769307, 2.6452238133907106e-17, 0.9517347513281803,
     -5.1448220270233144e-17},
};

static PetscErrorCode Known(void)
{
  Case      c;
  PetscReal z, lo, pair, error, twice, twice_lo, twice_error, gradient[20], unused[20];
  GramMean  mean;

  PetscFunctionBegin;
  for (size_t k = 0; k < PETSC_STATIC_ARRAY_LENGTH(known); k++) {
    PetscCall(Place(known[k].type, known[k].beta, known[k].where, &c));
    PetscCall(GramMeanCreateBox(PETSC_COMM_SELF, &c.kernel, c.lower, c.upper, &mean));
    PetscCall(GramMeanAt(mean, 1, c.x, &z, NULL));
    PetscCall(GramMeanGetErrors(mean, PETSC_FALSE, 1, c.x, &z, &error, &twice_error));
    PetscCall(GramMeanGetDouble(mean, &twice));
    CHECK(PetscAbsReal(z - known[k].z) <= error, "case %zu, %s: z = %.17g, not %.17g within %.2g", k,
          known[k].type, z, known[k].z, error);
    CHECK(error < 1e4 * PETSC_MACHINE_EPSILON * twice, "case %zu, %s: z = %.3g with error %.3g", k,
          known[k].type, z, error);
    CHECK(PetscAbsReal(twice - known[k].twice) <= twice_error,
          "case %zu, %s: I = %.17g, not %.17g within %.2g", k, known[k].type, twice, known[k].twice,
          twice_error);
    PetscCall(GramMeanAtPairs(mean, 1, c.x, &pair, &lo));
    PetscCall(GramMeanGetErrors(mean, PETSC_TRUE, 1, c.x, &z, &error, &twice_error));
    PetscCall(GramMeanGetDoublePair(mean, &twice, &twice_lo));
    error += 1e-31 * z; /* digits of the table */
    twice_error += 1e-31 * twice;
    CHECK(PetscAbsReal((pair - known[k].z) + (lo - known[k].z_lo)) <= error,
          "case %zu, %s: z is off by %.2g in pairs, not %.2g", k, known[k].type,
          (pair - known[k].z) + (lo - known[k].z_lo), error);
    CHECK(PetscAbsReal((twice - known[k].twice) + (twice_lo - known[k].twice_lo)) <= twice_error,
          "case %zu, %s: I is off by %.2g in pairs, not %.2g", k, known[k].type,
          (twice - known[k].twice) + (twice_lo - known[k].twice_lo), twice_error);

    PetscCall(GramMeanAt(mean, 1, c.x, &pair, gradient));
    /* Gaussians too narrow for z are in the sums of the gradient */
    CHECK(PetscAbsReal(pair - z) <= 64 * PETSC_MACHINE_EPSILON * z,
          "case %zu: z = %.17g with the gradient, %.17g without", k, pair, z);
    for (PetscInt i = 0; i < c.kernel.dim; i++) {
      const PetscReal step = 1e-6 * c.kernel.length_scale[i], x = c.x[i];
      PetscReal       hi[2], low[2], slope;

      for (int side = 0; side < 2; side++) {
        c.x[i] = x + (side ? step : -step);
        PetscCall(GramMeanAtPairs(mean, 1, c.x, hi + side, low + side));
      }
      slope = ((hi[1] - hi[0]) + (low[1] - low[0])) / (2 * step);
      /* at a wall the second derivative jumps: to first order in the step */
      CHECK(PetscAbsReal(slope - gradient[i]) <= 2e-6 * z / c.kernel.length_scale[i],
            "case %zu, %s: slope %d is %.10g, by differences %.10g", k, known[k].type, (int)i, gradient[i],
            slope);
      c.x[i] = x;
    }
    c.kernel.amplitude = 3;
    PetscCall(GramMeanDestroy(&mean));
    PetscCall(GramMeanCreateBox(PETSC_COMM_SELF, &c.kernel, c.lower, c.upper, &mean));
    PetscCall(GramMeanAt(mean, 1, c.x, &pair, unused));
    CHECK_CLOSE("9 z", pair, 9 * z, 1e-14);
    CHECK_CLOSE("9 slope", unused[0], 9 * gradient[0], 1e-14);
    PetscCall(GramMeanGetDouble(mean, &pair));
    CHECK_CLOSE("9 I", pair, 9 * twice, 1e-14);
    PetscCall(GramMeanDestroy(&mean));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* int_0^t phi, and int int phi over a square of side t, of matern with c = sqrt(2 nu) / length_scale */
static PetscReal Once(PetscInt p, PetscReal c, PetscReal t)
{
  const PetscReal e = PetscExpReal(-c * t);

  if (p == 0) return (1 - e) / c;
  if (p == 1) return (2 - (2 + c * t) * e) / c;
  return (8 - (8 + 5 * c * t + c * c * t * t) * e) / (3 * c);
}

static PetscReal Twice(PetscInt p, PetscReal c, PetscReal t)
{
  const PetscReal e = PetscExpReal(-c * t), c2 = c * c;

  if (p == 0) return 2 * (t / c - (1 - e) / c2);
  if (p == 1) return 2 * (2 * t / c - (3 - (3 + c * t) * e) / c2);
  return 2 * (8 * t / (3 * c) - (5 - (5 + 7 * c * t / 3 + c2 * t * t / 3) * e) / c2);
}

/* in one dimension, from wall to wall and beyond */
static PetscErrorCode Line(void)
{
  static const char *const types[] = {"exponential", "matern32", "matern52"};
  const PetscReal          lower = -0.5, upper = 1.75, width = upper - lower;
  PetscReal                z, twice, gradient, x;
  Case                     c;
  GramMean                 mean;

  PetscFunctionBegin;
  for (PetscInt p = 0; p < 3; p++) {
    PetscCall(Place(types[p], NAN, LINE, &c));
    PetscCall(GramMeanCreateBox(PETSC_COMM_SELF, &c.kernel, &lower, &upper, &mean));
    PetscCall(GramMeanGetDouble(mean, &twice));
    CHECK_CLOSE(types[p], twice, Twice(p, PetscSqrtReal(2 * p + 1) / 0.3, width) / (width * width), 1e-14);
    for (PetscInt i = 0; i <= 60; i++) {
      const PetscReal r = PetscSqrtReal(2 * p + 1) / 0.3;
      PetscReal       expected, jet[2][3];

      x = lower + width * (PetscReal)(i - 10) / 40;
      PetscCall(GramMeanAt(mean, 1, &x, &z, &gradient));
      /* odd in t: beyond a wall a difference */
      expected = (x < lower ? -Once(p, r, lower - x) : Once(p, r, x - lower)) +
                 (x > upper ? -Once(p, r, x - upper) : Once(p, r, upper - x));
      CHECK(PetscAbsReal(z - expected / width) <= 1e-15, "%s: z(%g) = %.17g, not %.17g", types[p], x, z,
            expected / width);
      GramKernelJet(&c.kernel, PetscSqr((x - lower) / 0.3), jet[0]);
      GramKernelJet(&c.kernel, PetscSqr((upper - x) / 0.3), jet[1]);
      CHECK(PetscAbsReal(gradient - (jet[0][0] - jet[1][0]) / width) <= 2e-15,
            "%s: slope at %g is %.17g, not %.17g", types[p], x, gradient, (jet[0][0] - jet[1][0]) / width);
    }
    PetscCall(GramMeanDestroy(&mean));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* What double makes of a box is within its bound of what pairs make of it, and the bound is not absurd. */
static PetscErrorCode Bounds(void)
{
  static const char *const types[] = {"gaussian", "exponential", "matern92", "rational_quadratic"};
  PetscReal                z, hi, lo, error;
  Case                     c;
  GramMean                 mean;

  PetscFunctionBegin;
  for (int k = 0; k < 4; k++) {
    PetscCall(Place(types[k], NAN, PLANE, &c));
    PetscCall(GramMeanCreateBox(PETSC_COMM_SELF, &c.kernel, c.lower, c.upper, &mean));
    for (uint64_t i = 0; i < 60; i++) {
      const PetscBool outside = (PetscBool)(i >= 30);

      for (uint64_t d = 0; d < 2; d++)
        c.x[d] = c.lower[d] +
                 (c.upper[d] - c.lower[d]) * ((outside ? 8 : 1) * CheckUniform(d, i) - (outside ? 4 : 0));
      PetscCall(GramMeanAt(mean, 1, c.x, &z, NULL));
      PetscCall(GramMeanAtPairs(mean, 1, c.x, &hi, &lo));
      PetscCall(GramMeanGetErrors(mean, PETSC_FALSE, 1, c.x, &z, &error, NULL));
      CHECK(PetscAbsReal(z - hi) <= error, "%s at %g, %g: off by %.3g, more than %.3g", types[k], c.x[0],
            c.x[1], z - hi, error);
      CHECK(outside || error < 1000 * PETSC_MACHINE_EPSILON * z, "%s at %g, %g: z = %.3g with error %.3g",
            types[k], c.x[0], c.x[1], z, error);
    }
    c.x[1] = NAN;
    PetscCall(GramMeanAt(mean, 1, c.x, &z, NULL));
    CHECK(PetscIsNanReal(z), "%s: z(NaN) = %g", types[k], z);
    PetscCall(GramMeanDestroy(&mean));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* rows of all ranks together, on each of them; n of them, so many [n][dim] */
static PetscErrorCode Everything(GramPoints X, const PetscReal local[], PetscReal **x, PetscReal **values)
{
  MPI_Comm    comm;
  PetscMPIInt size, *counts, *starts, count;
  PetscInt    n, n_local, start;

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(X, &comm, NULL, &n, &n_local, &start));
  PetscCallMPI(MPI_Comm_size(comm, &size));
  PetscCall(GramPointsAllGather(X, NULL, x));
  PetscCall(PetscMalloc1(n, values));
  PetscCall(PetscMalloc2(size, &counts, size, &starts));
  PetscCall(PetscMPIIntCast(n_local, &count));
  PetscCallMPI(MPI_Allgather(&count, 1, MPI_INT, counts, 1, MPI_INT, comm));
  starts[0] = 0;
  for (PetscMPIInt r = 1; r < size; r++) starts[r] = starts[r - 1] + counts[r - 1];
  PetscCallMPI(MPI_Allgatherv(local, count, MPIU_REAL, *values, counts, starts, MPIU_REAL, comm));
  PetscCall(PetscFree2(counts, starts));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Points(const Case *c, PetscInt n, uint64_t seed, GramPoints *X)
{
  const PetscInt dim = c->kernel.dim;
  PetscMPIInt    rank;
  PetscReal     *x;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(PETSC_COMM_WORLD, &rank));
  PetscCall(PetscMalloc1(n * dim, &x));
  for (PetscInt i = 0; i < n * dim; i++) x[i] = c->lower[i % dim] + CheckUniform(seed, (uint64_t)i);
  PetscCall(GramPointsCreate(PETSC_COMM_WORLD, dim, rank ? 0 : n, x, c->kernel.length_scale, 1, X));
  PetscCall(PetscFree(x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* m samples, n points, weights or none, against the double loop; the uniform measure on the same points */
static PetscErrorCode Samples(GramBackend backend, const char *type, int where, PetscInt m, PetscInt n,
                              PetscBool weighted)
{
  PetscInt         m_local, n_local, dim;
  const PetscReal *x;
  PetscReal       *w, *y, *all, *z, *gradient, *error, sum = 0, twice, expected = 0, twice_error, jet[3];
  Case             c;
  GramPoints       S, X;
  GramMean         mean;

  PetscFunctionBegin;
  PetscCall(Place(type, NAN, where, &c));
  dim                = c.kernel.dim;
  c.kernel.amplitude = 2;
  PetscCall(Points(&c, m, 1, &S));
  PetscCall(Points(&c, n, 2, &X));
  PetscCall(GramPointsGetSizes(S, NULL, NULL, NULL, &m_local, NULL));
  PetscCall(GramPointsGetSizes(X, NULL, NULL, NULL, &n_local, NULL));
  PetscCall(PetscMalloc4(m_local, &w, n_local, &z, n_local * dim, &gradient, n_local, &error));
  PetscCall(GramPointsGetArrayRead(S, &x));
  for (PetscInt i = 0; i < m_local; i++)
    w[i] = weighted ? PetscSqr(x[GramAt(i, dim, 0)] - c.lower[0])
                    : 1; /* by place: alike on any number of ranks */
  PetscCall(GramMeanCreateSamples(PETSC_COMM_WORLD, &c.kernel, backend, S, weighted ? w : NULL, &mean));
  PetscCall(Everything(S, w, &y, &all));
  for (PetscInt i = 0; i < m; i++) sum += all[i];
  for (PetscInt i = 0; i < m; i++) {
    for (PetscInt j = 0; j < m; j++) {
      PetscReal r2 = 0;

      for (PetscInt d = 0; d < dim; d++)
        r2 += PetscSqr((y[i * dim + d] - y[j * dim + d]) / c.kernel.length_scale[d]);
      GramKernelJet(&c.kernel, r2, jet);
      expected += 4 * all[i] / sum * all[j] / sum * jet[0];
    }
  }
  PetscCall(GramMeanGetDouble(mean, &twice));
  PetscCall(GramMeanGetErrors(mean, PETSC_FALSE, 0, NULL, NULL, NULL, &twice_error));
  CHECK(PetscAbsReal(twice - expected) <= twice_error && twice_error < 1e-12 * twice,
        "%s, %d samples: I = %.17g, not %.17g, error %.2g", type, (int)m, twice, expected, twice_error);
  PetscCall(GramMeanEvaluate(mean, X, z, gradient));
  PetscCall(GramPointsGetArrayRead(X, &x));
  PetscCall(GramMeanGetErrors(mean, PETSC_FALSE, n_local, x, z, error, NULL));
  for (PetscInt i = 0; i < n_local; i++) {
    PetscReal exact = 0, slope[5] = {0};

    for (PetscInt j = 0; j < m; j++) {
      PetscReal r2 = 0;

      for (PetscInt d = 0; d < dim; d++)
        r2 += PetscSqr((x[i * dim + d] - y[j * dim + d]) / c.kernel.length_scale[d]);
      GramKernelJet(&c.kernel, r2, jet);
      exact += 4 * all[j] / sum * jet[0];
      for (PetscInt d = 0; d < dim; d++)
        slope[d] += 4 * all[j] / sum * jet[1] * (x[i * dim + d] - y[j * dim + d]) /
                    PetscSqr(c.kernel.length_scale[d]);
    }
    CHECK(PetscAbsReal(z[i] - exact) <= error[i], "%s: z = %.17g, not %.17g within %.2g", type, z[i], exact,
          error[i]);
    for (PetscInt d = 0; d < dim; d++)
      CHECK(PetscAbsReal(gradient[i * dim + d] - slope[d]) <= 1e-12 * exact / c.kernel.length_scale[d],
            "%s: slope %.17g, not %.17g", type, gradient[i * dim + d], slope[d]);
  }
  for (PetscInt i = 0; i < n_local; i++) error[i] = z[i];
  PetscCall(GramMeanEvaluate(mean, X, z, NULL));
  for (PetscInt i = 0; i < n_local; i++) CHECK_CLOSE("z without gradient", z[i], error[i], 1e-14);
  PetscCall(GramMeanDestroy(&mean));

  if (!GramRadialGetInfo(c.kernel.radial)->support) {
    PetscCall(GramMeanCreateBox(PETSC_COMM_WORLD, &c.kernel, c.lower, c.upper, &mean));
    PetscCall(GramMeanEvaluate(mean, X, z, gradient));
    PetscCall(GramMeanAt(mean, n_local, x, error, NULL));
    for (PetscInt i = 0; i < n_local; i++) CHECK_CLOSE("z of the box", z[i], error[i], 1e-14);
    PetscCall(GramMeanDestroy(&mean));
  }
  PetscCall(PetscFree(y));
  PetscCall(PetscFree(all));
  PetscCall(PetscFree4(w, z, gradient, error));
  PetscCall(GramPointsDestroy(&S));
  PetscCall(GramPointsDestroy(&X));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* kernels without a mean, and weights that are no measure */
static PetscErrorCode Refused(GramBackend backend)
{
  static const char *const types[] = {"wendland2", "wendland4", "cubic", "multiquadric", "thin_plate"};
  PetscInt                 n;
  PetscReal                w[8];
  Case                     c;
  GramPoints               S;
  GramMean                 mean;
  PetscErrorCode           code;

  PetscFunctionBegin;
  for (int k = 0; k < 5; k++) {
    PetscCall(Place(types[k], NAN, PLANE, &c));
    PetscCall(PetscPushErrorHandler(PetscIgnoreErrorHandler, NULL));
    code = GramMeanCreateBox(PETSC_COMM_WORLD, &c.kernel, c.lower, c.upper, &mean);
    PetscCall(PetscPopErrorHandler());
    CHECK(code == GRAM_ERR_INPUT && !mean, "%s on a box: error %d", types[k], (int)code);
  }
  PetscCall(Points(&c, 8, 1, &S));
  PetscCall(GramPointsGetSizes(S, NULL, NULL, NULL, &n, NULL));
  for (int k = 0; k < 4; k++) {
    PetscCall(Place(k == 3 ? "cubic" : "gaussian", NAN, PLANE, &c));
    for (PetscInt i = 0; i < n; i++) w[i] = k == 0 ? 0 : (k == 1 && i == 0 ? -1e-3 : (k == 2 ? NAN : 1));
    PetscCall(PetscPushErrorHandler(PetscIgnoreErrorHandler, NULL));
    code = GramMeanCreateSamples(PETSC_COMM_WORLD, &c.kernel, backend, S, w, &mean);
    PetscCall(PetscPopErrorHandler());
    CHECK(code == GRAM_ERR_INPUT && !mean, "weights %d: error %d", k, (int)code);
  }
  PetscCall(GramPointsDestroy(&S));
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
  GramBackend backend;
  PetscMPIInt size;

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  PetscCallMPI(MPI_Comm_size(PETSC_COMM_WORLD, &size));
  PetscCall(GramBackendCreate(PETSC_COMM_WORLD, "cpu", GRAM_DOUBLE, &backend));
  if (size == 1) {
    PetscCall(Known());
    PetscCall(Line());
    PetscCall(Bounds());
  }
  PetscCall(Samples(backend, "matern32", PLANE, 301, 67, PETSC_TRUE));
  PetscCall(Samples(backend, "exponential", FIVE, 200, 5, PETSC_FALSE));
  PetscCall(Samples(backend, "wendland2", SPACE, 150, 40, PETSC_TRUE));
  PetscCall(Samples(backend, "gaussian", LINE, 1, 1, PETSC_FALSE)); /* ranks that own nothing */
  PetscCall(Samples(backend, "rational_quadratic", PLANE, 3, 1, PETSC_TRUE));
  PetscCall(Refused(backend));
  PetscCall(GramBackendDestroy(&backend));
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
