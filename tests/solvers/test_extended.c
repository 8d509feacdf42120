static const char help[] =
    "Weights in extended precision: exact worst-case errors of published node sets, and honest bounds.\n"
    "  -file: sets, each a line \"name dim n a wce2_optimal wce2_equal\" and n nodes\n";

#include "../check.h"
#include "extended.h"

/* k(x, y) = exp(-a^2 |x - y|^2) on the unit cube */
static PetscErrorCode Problem(const char *type, PetscInt dim, PetscReal scale, GramKernel *kernel,
                              GramMean *mean)
{
  PetscReal lower[3] = {0, 0, 0}, upper[3] = {1, 1, 1};
  PetscBool found;

  PetscFunctionBegin;
  *kernel = (GramKernel){.dim = dim, .n_length_scale = 1, .amplitude = 1};
  PetscCall(GramKernelSetType(kernel, type, NAN, &found));
  CHECK(found, "no kernel %s", type);
  for (PetscInt c = 0; c < dim; c++) kernel->length_scale[c] = scale;
  PetscCall(GramMeanCreateBox(PETSC_COMM_SELF, kernel, lower, upper, mean));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Exact numbers, of nodes as stored. The set jellium_N200 is one that double cannot tell from 0, and pairs of doubles cannot
   factor. */
static PetscErrorCode Published(const char *path)
{
  char            name[64];
  int             dim, n;
  PetscReal       a, optimal, equal, *x, *w;
  const PetscBool quad = (PetscBool)(GramExtendedEpsilon() < 1e-30);
  GramExtended    result, again;
  GramKernel      kernel;
  GramMean        mean;
  FILE           *file;

  PetscFunctionBegin;
  file = fopen(path, "r");
  PetscCheck(file, PETSC_COMM_SELF, PETSC_ERR_FILE_OPEN, "cannot open '%s'", path);
  while (fscanf(file, "%63s %d %d %lf %lf %lf", name, &dim, &n, &a, &optimal, &equal) == 6) {
    PetscCall(PetscMalloc2(n * dim, &x, n, &w));
    for (int i = 0; i < n * dim; i++) CHECK(fscanf(file, "%lf", x + i) == 1, "%s: cut at number %d", name, i);
    PetscCall(Problem("gaussian", dim, 1 / (a * PetscSqrtReal(2)), &kernel, &mean));
    PetscCall(GramExtendedWeights(&kernel, mean, n, x, NULL, PETSC_FALSE, w, &result));
    if (quad || optimal > 1e-10) {
      CHECK(result.singular == -1, "%s: singular at %d", name, (int)result.singular);
      CHECK(PetscAbsReal(result.wce_squared - optimal) <=
                PetscMax(1e-8 * optimal, 2 * result.wce_squared_error),
            "%s: wce^2 = %.17g, not %.17g, error %.2g", name, result.wce_squared, optimal,
            result.wce_squared_error);
      CHECK(result.wce_squared_error < (quad ? 1e-24 : 1e-6), "%s: error %.2g", name,
            result.wce_squared_error);
      CHECK(optimal > 1e-29 || PetscAbsReal(result.wce_squared) < 1e-28, "%s: wce^2 = %.3g", name,
            result.wce_squared);
      CHECK(PetscAbsReal(result.wce_squared_equal - equal) <=
                PetscMax(1e-12 * equal, result.wce_squared_error),
            "%s: equal weights: wce^2 = %.17g, not %.17g", name, result.wce_squared_equal, equal);
      PetscCall(GramExtendedError(&kernel, mean, n, x, NULL, w, &again));
      CHECK(again.wce_squared == result.wce_squared && again.wce_squared_equal == result.wce_squared_equal &&
                again.wce_squared_error == result.wce_squared_error && again.singular == -1 &&
                again.twin == -1,
            "%s: weights given back have another error", name);
    }
    PetscCall(GramMeanDestroy(&mean));
    PetscCall(PetscFree2(x, w));
  }
  CHECK(feof(file), "%s: not read to its end", path);
  (void)fclose(file);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* random nodes, the last as the first if so asked */
static void Nodes(PetscInt dim, PetscInt n, PetscBool twin, PetscReal x[])
{
  for (PetscInt i = 0; i < n * dim; i++)
    x[i] = CheckUniform(5, (uint64_t)(twin && i >= (n - 1) * dim ? i - (n - 1) * dim : i));
}

/* r = (K + alpha I) w - z, largest; and what it may be */
static void Residual(const GramKernel *kernel, PetscInt n, const PetscReal x[], const PetscReal z[],
                     const PetscReal w[], PetscReal *r, PetscReal *size)
{
  PetscReal jet[3];

  *r = *size = 0;
  for (PetscInt i = 0; i < n; i++) {
    PetscReal sum = kernel->alpha * w[i] - z[i], parts = PetscAbsReal(z[i]);

    for (PetscInt j = 0; j < n; j++) {
      PetscReal r2 = 0;

      for (PetscInt c = 0; c < kernel->dim; c++)
        r2 += PetscSqr((x[i * kernel->dim + c] - x[j * kernel->dim + c]) / kernel->length_scale[c]);
      GramKernelJet(kernel, r2, jet);
      sum += PetscSqr(kernel->amplitude) * jet[0] * w[j];
      parts += PetscAbsReal(PetscSqr(kernel->amplitude) * jet[0] * w[j]);
    }
    *r    = PetscMax(*r, PetscAbsReal(sum));
    *size = PetscMax(*size, parts);
  }
}

/* Every profile: the system is solved as double sees it; double's means are within the bound that they give, which is not absurd;
   pairs on vector instructions, plain or in quad precision solve the same system. */
static PetscErrorCode Profiles(void)
{
  static const char *const types[] = {
      "gaussian", "exponential",          "matern32",          "matern52", "matern72",
      "matern92", "inverse_multiquadric", "rational_quadratic"};
  enum { N = 83 };
  PetscReal    x[3 * N], w[N], z[N], r, size, twice, sum;
  GramExtended exact, rough;
  GramKernel   kernel;
  GramMean     mean;

  PetscFunctionBegin;
  Nodes(3, N, PETSC_FALSE, x);
  for (int k = 0; k < 8; k++) {
    PetscCall(Problem(types[k], 3, 0.4, &kernel, &mean));
    PetscCall(GramMeanDestroy(&mean));
    kernel.amplitude = 1.5;
    kernel.alpha     = 1e-4;
    PetscCall(GramMeanCreateBox(PETSC_COMM_SELF, &kernel, (PetscReal[]){0, -0.5, 0},
                                (PetscReal[]){1, 1, 0.75}, &mean));
    PetscCall(GramMeanAt(mean, N, x, z, NULL));
    PetscCall(GramMeanGetDouble(mean, &twice));
    PetscCall(GramExtendedWeights(&kernel, mean, N, x, NULL, PETSC_FALSE, w, &exact));
    CHECK(exact.singular == -1, "%s: singular at %d", types[k], (int)exact.singular);
    Residual(&kernel, N, x, z, w, &r, &size);
    CHECK(r <= 20 * PETSC_MACHINE_EPSILON * size, "%s: residual %.2g of %.2g", types[k], r, size);
    /* means of nodes outside of the box (the third coordinate) are among them */
    PetscCall(GramExtendedError(&kernel, mean, N, x, z, w, &rough));
    CHECK(PetscAbsReal(rough.wce_squared - exact.wce_squared) <= rough.wce_squared_error &&
              PetscAbsReal(rough.wce_squared_equal - exact.wce_squared_equal) <= rough.wce_squared_error,
          "%s: wce^2 = %.17g by means in double, %.17g in pairs, error %.2g", types[k], rough.wce_squared,
          exact.wce_squared, rough.wce_squared_error);
    sum = 1;
    for (int i = 0; i < N; i++) sum += PetscAbsReal(w[i]); /* |w|'|K||w| goes up to its square */
    CHECK(rough.wce_squared_error <= 1e3 * PETSC_MACHINE_EPSILON * twice * sum * sum,
          "%s: error %.2g where I = %.2g, |w| = %.2g", types[k], rough.wce_squared_error, twice, sum - 1);
    CHECK(exact.wce_squared_error <= 1e3 * (GramExtendedEpsilon() + 0x1p-106) * twice * sum * sum,
          "%s: error %.2g in pairs", types[k], exact.wce_squared_error);
    CHECK(exact.wce_squared > 0 && exact.wce_squared < exact.wce_squared_equal,
          "%s: wce^2 = %.3g, of equal weights %.3g", types[k], exact.wce_squared, exact.wce_squared_equal);

    PetscCall(GramExtendedWeights(&kernel, mean, N, x, z, PETSC_TRUE, w, &rough));
    sum = -1;
    for (int i = 0; i < N; i++) sum += w[i];
    CHECK(PetscAbsReal(sum) <= 1e-14, "%s: weights sum to 1 + %.2g", types[k], sum);
    CHECK(rough.wce_squared >= exact.wce_squared * (1 - 1e-2) && rough.wce_squared <= exact.wce_squared_equal,
          "%s: wce^2 = %.3g where weights sum to 1", types[k], rough.wce_squared);
    PetscCall(GramMeanDestroy(&mean));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* coinciding nodes are found unless alpha makes room for both */
static PetscErrorCode Twins(void)
{
  enum { N = 20 };
  PetscReal    x[2 * N], w[N];
  GramExtended result;
  GramKernel   kernel;
  GramMean     mean;

  PetscFunctionBegin;
  PetscCall(Problem("matern32", 2, 0.5, &kernel, &mean));
  Nodes(2, N, PETSC_TRUE, x);
  PetscCall(GramExtendedWeights(&kernel, mean, N, x, NULL, PETSC_FALSE, w, &result));
  CHECK(result.singular == N - 1 && result.twin == 0, "twins 0 and %d: found %d and %d", N - 1,
        (int)result.twin, (int)result.singular);
  kernel.alpha = 1e-20;
  PetscCall(GramExtendedWeights(&kernel, mean, N, x, NULL, PETSC_FALSE, w, &result));
  if (GramExtendedEpsilon() < 1e-30) {
    CHECK(result.singular == -1 && result.twin == -1, "twins with alpha: singular at %d",
          (int)result.singular);
    CHECK_CLOSE("weights of twins", w[0], w[N - 1], 1e-8); /* alpha over 2^-104 */
  }
  kernel.alpha = 1e-6;
  PetscCall(GramExtendedWeights(&kernel, mean, N, x, NULL, PETSC_FALSE, w, &result));
  CHECK(result.singular == -1, "twins with alpha = 1e-6: singular at %d", (int)result.singular);
  CHECK_CLOSE("weights of twins", w[0], w[N - 1], 1e-9);
  PetscCall(GramMeanDestroy(&mean));
  /* too smooth a kernel for any of these numbers */
  PetscCall(Problem("gaussian", 2, 1e9, &kernel, &mean));
  Nodes(2, N, PETSC_FALSE, x);
  PetscCall(GramExtendedWeights(&kernel, mean, N, x, NULL, PETSC_FALSE, w, &result));
  CHECK(result.singular > 0 && result.twin == -1, "all but constant: singular at %d", (int)result.singular);
  PetscCall(GramMeanDestroy(&mean));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* samples: means in double, wendland kernels too; a rule on the samples themselves has no error */
static PetscErrorCode Samples(void)
{
  static const char *const types[] = {"wendland2", "wendland4", "matern52"};
  enum { N = 60 };
  const PetscReal *x;
  PetscReal        w[N], z[N];
  GramExtended     result;
  GramKernel       kernel;
  GramBackend      backend;
  GramPoints       S;
  GramMean         mean;
  PetscBool        found;

  PetscFunctionBegin;
  PetscCall(GramBackendCreate(PETSC_COMM_SELF, "cpu", GRAM_DOUBLE, &backend));
  kernel = (GramKernel){.dim = 3, .n_length_scale = 3, .amplitude = 1, .length_scale = {0.8, 0.9, 1.5}};
  {
    PetscReal y[3 * N];

    Nodes(3, N, PETSC_FALSE, y);
    PetscCall(GramPointsCreate(PETSC_COMM_SELF, 3, N, y, NULL, 1, &S));
  }
  PetscCall(GramPointsGetArrayRead(S, &x));
  for (int k = 0; k < 3; k++) {
    PetscCall(GramKernelSetType(&kernel, types[k], NAN, &found));
    PetscCall(GramMeanCreateSamples(PETSC_COMM_SELF, &kernel, backend, S, NULL, &mean));
    PetscCall(GramMeanEvaluate(mean, S, z, NULL));
    PetscCall(GramExtendedWeights(&kernel, mean, N, x, z, PETSC_FALSE, w, &result));
    CHECK(result.singular == -1, "%s: singular at %d", types[k], (int)result.singular);
    CHECK(PetscAbsReal(result.wce_squared) <= result.wce_squared_error &&
              PetscAbsReal(result.wce_squared_equal) <= result.wce_squared_error &&
              result.wce_squared_error < 1e-12,
          "%s: wce^2 = %.3g, equal weights %.3g, error %.3g", types[k], result.wce_squared,
          result.wce_squared_equal, result.wce_squared_error);
    for (int i = 0; i < N; i++) CHECK_CLOSE("weight of a sample", w[i], 1.0 / N, 1e-9);
    PetscCall(GramMeanDestroy(&mean));
  }
  PetscCall(GramPointsDestroy(&S));
  PetscCall(GramBackendDestroy(&backend));
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
  char      path[PETSC_MAX_PATH_LEN];
  PetscBool found;

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  PetscCall(PetscOptionsGetString(NULL, NULL, "-file", path, sizeof path, &found));
  PetscCheck(found, PETSC_COMM_WORLD, PETSC_ERR_USER, "-file is missing");
  PetscCall(Published(path));
  PetscCall(Profiles());
  PetscCall(Twins());
  PetscCall(Samples());
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
