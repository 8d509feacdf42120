static const char help[] = "Iterations of the automatic preconditioner on the acceptance set: within their "
                           "limits, the same on any ranks,\n"
                           "and no more than plain conjugate gradients take, but for 2.\n"
                           "  -case NAME  that one   -quick  those below a second   -verbose  a line each\n"
                           "  -mixed      instead: iterations of mixed precision against double\n"
                           "  -large      instead: iterations of 64 000 points against 4 000\n";

#include <string.h>

#include "../check.h"
#include "lrv.h"
#include "solve.h"

/* One problem: points, right-hand side and kernel of a kind; the iterations to 1e-8 that are allowed. */
typedef struct {
  const char *name, *points, *rhs, *kernel;
  PetscInt    n, dim;
  PetscReal   length, alpha;
  PetscInt    limit;
  PetscBool   quick; /* a second or less */
} Case;

static const Case cases[] = {
    {"K1a", "uniform", "k1", "gaussian", 10000, 1, 0.1, 1, 7, PETSC_TRUE},
    {"K1d", "uniform", "k1", "gaussian", 10000, 1, 0.1, 1e-6, 5, PETSC_TRUE},
    {"K2a", "uniform", "k2", "exponential", 10000, 2, 0.1, 10, 12, PETSC_FALSE},
    {"K2d", "uniform", "k2", "exponential", 10000, 2, 0.1, 1e-6, 10, PETSC_FALSE},
    {"GSm", "uniform", "std", "gaussian", 3000, 2, 0.3, 1e-8, 6, PETSC_TRUE},
    {"GMd", "uniform", "std", "gaussian", 3000, 2, 0.05, 1e-6, 50, PETSC_FALSE},
    {"GSh", "uniform", "std", "gaussian", 3000, 2, 0.015, 1e-6, 21, PETSC_TRUE},
    {"G3m", "uniform", "std", "gaussian", 3000, 3, 0.15, 1e-4, 67, PETSC_FALSE},
    {"M3b", "uniform", "std", "matern32", 3000, 2, 0.3, 1e-10, 12, PETSC_TRUE},
    {"M3l", "uniform", "std", "matern32", 3000, 2, 1.0, 0.1, 9, PETSC_TRUE},
    {"M5a", "uniform", "std", "matern52", 3000, 3, 0.5, 1e-6, 40, PETSC_TRUE},
    {"E3a", "uniform", "std", "exponential", 3000, 3, 1.0, 1e-6, 15, PETSC_TRUE},
    {"CLa", "clusters", "std", "matern52", 3000, 2, 0.3, 1e-6, 21, PETSC_TRUE},
    {"CLg", "clusters", "std", "gaussian", 3000, 2, 0.1, 1e-8, 24, PETSC_FALSE},
    {"TRb", "track", "std", "matern32", 3000, 2, 0.1, 1e-8, 11, PETSC_TRUE},
    {"H10", "normal", "std", "gaussian", 3000, 10, 3.0, 1e-3, 89, PETSC_FALSE},
    {"H20", "normal", "std", "matern32", 3000, 20, 5.0, 1e-4, 62, PETSC_FALSE},
    {"H20e", "normal", "std", "exponential", 3000, 20, 5.0, 1e-2, 40, PETSC_FALSE},
    /* with the linear tail that the kernel needs */
    {"3a", "surface", "smooth", "cubic", 8000, 3, 1, 0, 10, PETSC_FALSE},
    {"3b", "uniform", "std", "cubic", 4000, 2, 1, 1e-4, 12, PETSC_TRUE},
    {"3c", "uniform", "std", "cubic", 4000, 3, 1, 1e-6, 24, PETSC_TRUE},
    /* values and gradients: limits are 1.25 times the prototype's iterations, and 2 */
    {"R2s", "uniform", "gradients", "gaussian", 800, 2, 0.3, 1e-6, 5, PETSC_TRUE},
    {"R2m", "uniform", "gradients", "gaussian", 800, 2, 0.05, 1e-2, 24, PETSC_TRUE},
    {"R2d", "uniform", "gradients", "gaussian", 800, 2, 0.05, 1e-6, 112, PETSC_TRUE},
    {"R3m", "uniform", "gradients", "gaussian", 700, 3, 0.2, 1e-4, 54, PETSC_TRUE},
};

/* Float is admissible for some and not for others; limit is not used. */
static const Case mixed_cases[] = {
    {"exp 10", "uniform", "k2", "exponential", 2000, 2, 0.1, 10, 0, PETSC_TRUE},
    {"exp 1e-2", "uniform", "k2", "exponential", 2000, 2, 0.1, 1e-2, 0, PETSC_TRUE},
    {"exp 1e-6", "uniform", "k2", "exponential", 2000, 2, 0.1, 1e-6, 0, PETSC_TRUE},
    {"gauss1 1", "uniform", "k1", "gaussian", 2000, 1, 0.1, 1, 0, PETSC_TRUE},
    {"gauss1 1e-4", "uniform", "k1", "gaussian", 2000, 1, 0.1, 1e-4, 0, PETSC_TRUE},
    {"gauss1 1e-6", "uniform", "k1", "gaussian", 2000, 1, 0.1, 1e-6, 0, PETSC_TRUE},
    {"gauss2 1e-2", "uniform", "std", "gaussian", 2000, 2, 0.05, 1e-2, 0, PETSC_TRUE},
    {"gauss2 1e-4", "uniform", "std", "gaussian", 2000, 2, 0.05, 1e-4, 0, PETSC_TRUE},
    {"gauss2 1e-6", "uniform", "std", "gaussian", 2000, 2, 0.05, 1e-6, 0, PETSC_TRUE},
    {"m32 1e-3", "uniform", "std", "matern32", 2000, 2, 0.3, 1e-3, 0, PETSC_TRUE},
    {"m32 1e-6", "uniform", "std", "matern32", 2000, 2, 0.3, 1e-6, 0, PETSC_TRUE},
};

/* in 4 000 points, and in 64 000 */
static const Case large_cases[] = {
    {"K2c", "uniform", "k2", "exponential", 4000, 2, 0.1, 1e-4, 0, PETSC_FALSE},
    {"M3a", "uniform", "std", "matern32", 4000, 2, 0.3, 1e-6, 0, PETSC_FALSE},
};

/* standard normal by counter */
static PetscReal Normal(uint64_t seed, uint64_t i)
{
  return PetscSqrtReal(-2 * PetscLogReal(1 - CheckUniform(seed, 2 * i))) *
         PetscCosReal(2 * PETSC_PI * CheckUniform(seed, 2 * i + 1));
}

static void Points(const Case *c, PetscReal *x)
{
  for (PetscInt i = 0; i < c->n; i++) {
    PetscReal *xi = x + i * c->dim;

    if (!strcmp(c->points, "clusters")) { /* 32 of radii 1e-3 to 1e-1 */
      const uint64_t  k      = (uint64_t)(32 * CheckUniform(12, (uint64_t)i));
      const PetscReal radius = PetscPowReal(10, -3 + 2 * CheckUniform(13, k));

      for (PetscInt d = 0; d < 2; d++)
        xi[d] = CheckUniform(11, 2 * k + (uint64_t)d) + radius * Normal(14, (uint64_t)(2 * i + d));
    } else if (!strcmp(c->points, "track")) { /* 20 lines, dense along them */
      const PetscReal t = 20 * (i + 0.5) / (PetscReal)c->n, line = PetscFloorReal(t), f = t - line;

      xi[0] = ((PetscInt)line % 2 ? 1 - f : f) + 1e-4 * Normal(15, (uint64_t)(2 * i));
      xi[1] = (line + 0.5) / 20 + 1e-4 * Normal(15, (uint64_t)(2 * i + 1));
    } else if (!strcmp(c->points, "surface")) { /* a sphere of Fibonacci's spiral, with bumps */
      const PetscReal z = 1 - (2 * i + 1.) / (PetscReal)c->n, turn = i * PETSC_PI * (3 - PetscSqrtReal(5)),
                      r = PetscSqrtReal(1 - z * z), u = r * PetscCosReal(turn), v = r * PetscSinReal(turn),
                      bump = 0.4 * (1 + 0.2 * PetscSinReal(5 * u) * PetscCosReal(4 * v));

      xi[0] = 0.5 + bump * u;
      xi[1] = 0.5 + bump * v;
      xi[2] = 0.5 + bump * z;
    } else {
      for (PetscInt d = 0; d < c->dim; d++) {
        const uint64_t at = (uint64_t)(i * c->dim + d);

        xi[d] = !strcmp(c->points, "normal") ? Normal(16, at) : CheckUniform(1, at);
      }
    }
  }
}

static PetscReal Value(const Case *c, const PetscReal *x, PetscInt i)
{
  PetscReal b = 1, q = 0;

  if (!strcmp(c->rhs, "k1"))
    return x[0] + 0.5 * PetscSinReal(6 * x[0]) + 0.1 * PetscSinReal(20 * x[0]) +
           0.05 * Normal(2, (uint64_t)i);
  if (!strcmp(c->rhs, "k2")) { /* a ring, and in the last quarter noise */
    if (i >= c->n - c->n / 4) return CheckUniform(3, (uint64_t)(i - (c->n - c->n / 4)));
    q = (x[0] - 0.5) * (x[0] - 0.5) + (x[1] - 0.5) * (x[1] - 0.5);
    return (q <= 0.16 && q >= 0.09) + 0.05 * Normal(2, (uint64_t)i);
  }
  for (PetscInt d = 0; d < PetscMin(c->dim, 3); d++) b *= PetscCosReal((PetscReal)(3 + 2 * d) * x[d]);
  return !strcmp(c->rhs, "std") ? b + 0.1 * Normal(2, (uint64_t)i)
                                : b; /* else smooth, with or without its gradients */
}

/* derivative in x_e of what is smooth */
static PetscReal Slope(const Case *c, const PetscReal *x, PetscInt e)
{
  PetscReal b = 1;

  for (PetscInt d = 0; d < PetscMin(c->dim, 3); d++) {
    const PetscReal w = (PetscReal)(3 + 2 * d);

    b *= d == e ? -w * PetscSinReal(w * x[d]) : PetscCosReal(w * x[d]);
  }
  return e < 3 ? b : 0;
}

/* Collective on comm. */
static PetscErrorCode Solve(MPI_Comm comm, const Case *c, GramPrecision precision, GramReport *report)
{
  GramKernel     kernel  = {.dim       = c->dim,
                            .amplitude = 1,
                            .alpha     = c->alpha,
                            .alpha_gradient =
                                c->alpha / PetscSqr(c->length), /* the same of derivatives in x / l */
                            .gradients = (PetscBool)!strcmp(c->rhs, "gradients")};
  const PetscInt numbers = GramKernelNumbers(&kernel);
  GramBackend    backend, exact;
  GramPoints     X;
  PetscMPIInt    rank;
  PetscReal     *x, *y;
  PetscBool      found;
  Mat            A, A_true, Y, C;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCall(GramBackendCreate(comm, "auto", precision, &backend));
  PetscCall(GramKernelSetType(&kernel, c->kernel, NAN, &found));
  for (PetscInt d = 0; d < c->dim; d++) kernel.length_scale[d] = c->length;
  PetscCall(PetscMalloc2(c->n * c->dim, &x, c->n * numbers, &y));
  Points(c, x);
  for (PetscInt i = 0; i < c->n; i++) {
    y[i * numbers] = Value(c, x + i * c->dim, i);
    for (PetscInt e = 0; e + 1 < numbers; e++) y[i * numbers + 1 + e] = Slope(c, x + i * c->dim, e);
  }
  PetscCall(GramPointsCreate(comm, c->dim, rank ? 0 : c->n, x, kernel.length_scale, 1, &X));
  PetscCall(GramPanelFromInput(X, numbers, 1, y, &Y));
  PetscCall(GramMatCreate(X, &kernel, backend, &A));
  PetscCall(GramTrueOperatorCreate(X, &kernel, backend, A, &exact, &A_true));
  PetscCall(GramSolve(A, A_true, Y, NULL, &C, report));
  PetscCall(GramReportClear(report));
  PetscCall(MatDestroy(&C));
  PetscCall(MatDestroy(&Y));
  PetscCall(MatDestroy(&A_true));
  PetscCall(MatDestroy(&A));
  PetscCall(GramPointsDestroy(&X));
  PetscCall(GramBackendDestroy(&exact));
  PetscCall(GramBackendDestroy(&backend));
  PetscCall(PetscFree2(x, y));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Plain conjugate gradients, stopped 3 products earlier: they must not be there yet. */
static PetscErrorCode Plain(const Case *c, PetscInt iterations)
{
  char       most[16];
  PetscBool  chosen;
  GramReport report;

  PetscFunctionBegin;
  PetscCall(PetscOptionsHasName(NULL, NULL, "-pc_type", &chosen)); /* to look at other preconditioners */
  if (chosen || iterations <= 3) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscSNPrintf(most, sizeof most, "%d", (int)iterations - 3));
  PetscCall(PetscOptionsSetValue(NULL, "-pc_type", "none"));
  PetscCall(PetscOptionsSetValue(NULL, "-ksp_max_it", most));
  PetscCall(Solve(PETSC_COMM_WORLD, c, GRAM_DOUBLE, &report));
  CHECK(!report.converged, "%s: plain conjugate gradients take %d iterations, lrv %d", c->name,
        (int)report.iterations, (int)iterations);
  PetscCall(PetscOptionsClearValue(NULL, "-pc_type"));
  PetscCall(PetscOptionsClearValue(NULL, "-ksp_max_it"));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Within 1.6 times the iterations of double and 5, with those that double then needs where float will not do. */
static PetscErrorCode Mixed(const Case *c, PetscBool verbose)
{
  GramReport full, mixed;

  PetscFunctionBegin;
  PetscCall(Solve(PETSC_COMM_WORLD, c, GRAM_DOUBLE, &full));
  PetscCall(Solve(PETSC_COMM_WORLD, c, GRAM_MIXED, &mixed));
  CHECK(mixed.converged, "%s: mixed %s, residual %.1e", c->name, mixed.reason, mixed.relative_residual);
  CHECK(mixed.iterations <= 1.6 * full.iterations + 5, "%s: mixed %d iterations, double %d", c->name,
        (int)mixed.iterations, (int)full.iterations);
  if (verbose)
    PetscCall(PetscPrintf(PETSC_COMM_WORLD,
                          "%-12s double %3d, mixed %3d, true operator from %3d, residual %.1e, %s\n", c->name,
                          (int)full.iterations, (int)mixed.iterations, (int)mixed.exact_from,
                          mixed.relative_residual, mixed.reason));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Large(const Case *c, PetscBool verbose)
{
  Case       many = *c;
  GramReport report, large;

  PetscFunctionBegin;
  many.n = 16 * c->n;
  PetscCall(Solve(PETSC_COMM_WORLD, c, GRAM_DOUBLE, &report));
  PetscCall(Solve(PETSC_COMM_WORLD, &many, GRAM_DOUBLE, &large));
  CHECK(report.converged && large.converged, "%s: %s and %s", c->name, report.reason, large.reason);
  CHECK(large.iterations <= 2 * report.iterations, "%s: %d iterations of %d points, %d of %d", c->name,
        (int)report.iterations, (int)c->n, (int)large.iterations, (int)many.n);
  if (verbose)
    PetscCall(PetscPrintf(
        PETSC_COMM_WORLD,
        "%-5s %d iterations of %d points, %d of %d: %.1f s setup, %.1f s solve, rank %d, %d neighbours\n",
        c->name, (int)report.iterations, (int)c->n, (int)large.iterations, (int)many.n, large.setup_seconds,
        large.solve_seconds, (int)large.pc_rank, (int)large.pc_neighbors));
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
  char        name[16] = "";
  PetscBool   one, quick, verbose, mixed, large;
  PetscMPIInt rank, size;

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  PetscCallMPI(MPI_Comm_rank(PETSC_COMM_WORLD, &rank));
  PetscCallMPI(MPI_Comm_size(PETSC_COMM_WORLD, &size));
  PetscCall(PetscOptionsGetString(NULL, NULL, "-case", name, sizeof name, &one));
  PetscCall(PetscOptionsHasName(NULL, NULL, "-quick", &quick));
  PetscCall(PetscOptionsHasName(NULL, NULL, "-mixed", &mixed));
  PetscCall(PetscOptionsHasName(NULL, NULL, "-large", &large));
  PetscCall(PetscOptionsHasName(NULL, NULL, "-verbose", &verbose));
  PetscCall(PetscOptionsSetValue(NULL, "-solve_method", "iterative"));
  for (size_t k = 0; k < PETSC_STATIC_ARRAY_LENGTH(mixed_cases) && mixed; k++)
    PetscCall(Mixed(mixed_cases + k, verbose));
  for (size_t k = 0; k < PETSC_STATIC_ARRAY_LENGTH(large_cases) && large; k++)
    PetscCall(Large(large_cases + k, verbose));
  for (size_t k = 0; k < PETSC_STATIC_ARRAY_LENGTH(cases) && !mixed && !large; k++) {
    const Case *c = cases + k;
    GramReport  report, alone;

    if ((one && strcmp(name, c->name) != 0) || (quick && !c->quick)) continue;
    PetscCall(Solve(PETSC_COMM_WORLD, c, GRAM_DOUBLE, &report));
    CHECK(report.converged && report.iterations <= c->limit, "%s: %d iterations, limit %d, %s", c->name,
          (int)report.iterations, (int)c->limit, report.reason);
    if (verbose)
      PetscCall(PetscPrintf(PETSC_COMM_WORLD,
                            "%-5s %3d of %3d  rank %4d, %3d neighbours  residual %.1e  backward %.1e  %-20s "
                            "%6.2f s setup, %6.2f s solve\n",
                            c->name, (int)report.iterations, (int)c->limit, (int)report.pc_rank,
                            (int)report.pc_neighbors, report.relative_residual, report.backward_error,
                            report.reason, report.setup_seconds, report.solve_seconds));
    PetscCall(Plain(c, report.iterations));
    if (size == 1 || rank) continue;
    PetscCall(Solve(PETSC_COMM_SELF, c, GRAM_DOUBLE, &alone));
    CHECK(PetscAbsInt(report.iterations - alone.iterations) <= 1, "%s: %d iterations on %d ranks, %d on one",
          c->name, (int)report.iterations, size, (int)alone.iterations);
  }
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
