static const char help[] = "Coulomb forces: every backend and precision agrees with plain loops, at any "
                           "number of dimensions and rows.\n";

#include "../check.h"
#include "coulomb.h"

/* plain long double loops, which share nothing with kernels/ */
static void Plain(int dim, long i, const double *x, long n, const double *z, const double *charge,
                  double soft, long double *f, long double *size)
{
  for (int c = 0; c < dim + 2; c++) f[c] = 0;
  f[dim + 1] = charge ? 0 : INFINITY;
  *size      = 0;
  for (long j = 0; j < n; j++) {
    long double s = charge ? soft : 0, q = charge ? charge[j] : 1;

    for (int c = 0; c < dim; c++)
      s += (x[i * dim + c] - (long double)z[j * dim + c]) * (x[i * dim + c] - (long double)z[j * dim + c]);
    if (s == 0) continue;
    for (int c = 0; c < dim; c++)
      f[c] += q * (x[i * dim + c] - (long double)z[j * dim + c]) * powl(s, -0.5L * dim);
    *size += fabsl(q) * powl(s, 0.5L * (1 - dim));
    f[dim] += q * (dim == 2 ? -0.5L * logl(s) : powl(s, 0.5L * (2 - dim)) / (dim - 2));
    if (charge) f[dim + 1] += q * powl(s, -0.5L * dim - 1);
    else if (s < f[dim + 1]) f[dim + 1] = s;
  }
  if (charge) f[dim + 1] *= dim * soft / (2 * powl(acosl(-1), 0.5L * dim) / tgammal(0.5L * dim));
}

static PetscErrorCode Compare(GramBackend backend, int dim, PetscInt m, PetscInt n, PetscBool cloud,
                              PetscBool same)
{
  const char   *name, *detail;
  GramPrecision precision;
  PetscReal    *x, *z, *charge, *out, tolerance;
  GramCloud     soft;

  PetscFunctionBegin;
  PetscCall(GramBackendGetInfo(backend, &name, &detail, &precision));
  tolerance = precision == GRAM_DOUBLE ? 1e-13 : 2e-5; /* of the magnitudes that a sum is of */
  PetscCall(
      PetscMalloc4(GramAt(m, dim, 0), &x, GramAt(n, dim, 0), &z, n, &charge, GramAt(m, dim + 2, 0), &out));
  for (PetscInt i = 0; i < m * dim; i++) x[i] = 3 * CheckUniform(1, (uint64_t)i);
  for (PetscInt i = 0; i < n * dim; i++) z[i] = same && i < m * dim ? x[i] : 3 * CheckUniform(2, (uint64_t)i);
  for (PetscInt j = 0; j < n; j++) charge[j] = 0.1 + CheckUniform(3, (uint64_t)j);
  soft = (GramCloud){charge, 0.04};
  PetscCall(GramCoulomb(backend, dim, m, x, n, z, cloud ? &soft : NULL, out));
  for (PetscInt i = 0; i < m; i++) {
    long double      f[GRAM_MAX_DIM + 2], size;
    const PetscReal *o     = out + GramAt(i, dim + 2, 0);
    double           worst = 0;

    Plain(dim, i, x, n, z, cloud ? charge : NULL, 0.04, f, &size);
    for (int c = 0; c < dim; c++) worst = fmax(worst, (double)fabsl(o[c] - f[c]));
    CHECK(worst <= tolerance * (double)size, "%s %s %s, %d-d, %d x %d: force %d is off by %g of %g", name,
          detail, GramPrecisionName(precision), dim, (int)m, (int)n, (int)i, worst, (double)size);
    CHECK(fabs((double)(o[dim] - f[dim])) <= tolerance * (double)(fabsl(f[dim]) + n + size),
          "%s %d-d: energy %g, not %g", name, dim, (double)o[dim], (double)f[dim]);
    if (n > (same ? 1 : 0) || cloud)
      CHECK(fabs((double)(o[dim + 1] - f[dim + 1])) <=
                10 * tolerance * (double)(f[dim + 1]) + (precision == GRAM_DOUBLE ? 0 : 1e-6),
            "%s %d-d, %d x %d: third number %g, not %g", name, dim, (int)m, (int)n, (double)o[dim + 1],
            (double)f[dim + 1]);
  }
  PetscCall(PetscFree4(x, z, charge, out));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* the same bits for a row whatever rows stand beside it: what ranks own does not matter */
static PetscErrorCode RowsAlone(GramBackend backend, int dim)
{
  enum { M = 67, N = 515 };
  PetscReal x[N * 4], all[M * 6], some[M * 6];

  PetscFunctionBegin;
  for (int i = 0; i < N * dim; i++) x[i] = CheckUniform(5, (uint64_t)i);
  PetscCall(GramCoulomb(backend, dim, M, x, N, x, NULL, all));
  for (int first = 0, count = 1; first < M; first += count, count = count % 19 + 6) {
    const int n = first + count < M ? count : M - first;

    PetscCall(GramCoulomb(backend, dim, n, x + first * dim, N, x, NULL, some));
    for (int k = 0; k < n * (dim + 2); k++)
      CHECK(some[k] == all[first * (dim + 2) + k], "%d-d: number %d from row %d differs by %g", dim, k, first,
            (double)(some[k] - all[first * (dim + 2) + k]));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
  PetscBool found;
  char      detail[128];

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  CHECK_CLOSE("the unit circle", GramSphereArea(2), 2 * PETSC_PI, 1e-15);
  CHECK_CLOSE("the unit sphere", GramSphereArea(3), 4 * PETSC_PI, 1e-15);
  for (int b = 0; GramBackendName(b); b++) {
    PetscCall(GramBackendProbe(PETSC_COMM_SELF, b, &found, detail, sizeof detail));
    if (!found) continue;
    for (int p = 0; GramPrecisionName(p); p++) {
      GramBackend backend;

      PetscCall(GramBackendCreate(PETSC_COMM_SELF, GramBackendName(b), (GramPrecision)p, &backend));
      for (int dim = 2; dim <= 7; dim++) {
        for (int cloud = 0; cloud < 2; cloud++) {
          PetscCall(Compare(backend, dim, 67, 67, (PetscBool)cloud, PETSC_TRUE));
          PetscCall(Compare(backend, dim, 1, 1, (PetscBool)cloud, PETSC_TRUE));
          PetscCall(Compare(backend, dim, 3, 1031, (PetscBool)cloud, PETSC_FALSE));
          PetscCall(Compare(backend, dim, 1029, 5, (PetscBool)cloud, PETSC_FALSE));
          PetscCall(Compare(backend, dim, 0, 5, (PetscBool)cloud, PETSC_FALSE));
          PetscCall(Compare(backend, dim, 5, 0, (PetscBool)cloud, PETSC_FALSE));
        }
        if (dim <= 4) PetscCall(RowsAlone(backend, dim));
      }
      PetscCall(GramBackendDestroy(&backend));
    }
  }
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
