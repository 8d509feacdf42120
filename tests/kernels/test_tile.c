static const char help[] =
    "The cpu backend's tiles agree with ref: every profile, dimension, width and precision.\n";

#include "../check.h"
#include "backend.h"

/* largest |y - y_ref| / sum_j |phi| |v_j| over the rows: the error a tile is responsible for */
static PetscErrorCode Compare(GramKernel *kernel, GramBackend cpu, GramBackend ref, PetscInt m, PetscInt n,
                              PetscInt q, PetscBool square, PetscReal offset, PetscReal *error)
{
  const PetscInt dim = kernel->dim;
  PetscReal     *x, *z, *v, *y[2], *scale, *magnitude;
  GramTiles      tiles[2];

  PetscFunctionBegin;
  if (square) n = m;
  PetscCall(PetscMalloc3(m * dim, &x, n * dim, &z, n * q, &v));
  PetscCall(PetscCalloc4(m * q, &y[0], m * q, &y[1], m * q, &scale, n * q, &magnitude));
  for (PetscInt i = 0; i < m * dim; i++) x[i] = offset + 2 * CheckUniform(1, (uint64_t)i);
  for (PetscInt i = 0; i < n * dim; i++) z[i] = square ? x[i] : offset + 2 * CheckUniform(2, (uint64_t)i);
  if (m > 1 && n > 1 && !square) PetscCall(PetscArraycpy(x, z, dim)); /* a coincident pair */
  for (PetscInt i = 0; i < n * q; i++)
    v[i] = CheckUniform(3, (uint64_t)i) - 0.5, magnitude[i] = PetscAbsReal(v[i]);
  for (int b = 0; b < 2; b++) {
    const GramTile both[3] = {{0, m / 2, 0, m / 2, GRAM_TILE_DIAGONAL},
                              {0, m / 2, m / 2, m - m / 2, GRAM_TILE_BOTH},
                              {m / 2, m - m / 2, m / 2, m - m / 2, GRAM_TILE_DIAGONAL}};
    const GramTile once    = {0, m, 0, n, GRAM_TILE_ONCE};

    PetscCall(GramTilesCreate(b ? ref : cpu, kernel, GRAM_VALUE, m, x, GRAM_VALUE, n, square ? NULL : z,
                              &tiles[b]));
    if (square) PetscCall(GramTilesApply(tiles[b], 3, both, q, v, y[b], v, y[b]));
    else PetscCall(GramTilesApply(tiles[b], 1, &once, q, v, y[b], NULL, NULL));
    if (b) PetscCall(GramTilesApply(tiles[b], 1, &once, q, magnitude, scale, NULL, NULL));
    PetscCall(GramTilesDestroy(&tiles[b]));
  }
  *error = 0;
  for (PetscInt i = 0; i < m * q; i++) *error = PetscMax(*error, PetscAbsReal(y[0][i] - y[1][i]) / scale[i]);
  PetscCall(PetscFree3(x, z, v));
  PetscCall(PetscFree4(y[0], y[1], scale, magnitude));
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
#define TEST_NAME(UPPER, Camel, name, twonu, order, unit) name,
  static const char *const names[] = {GRAM_RADIAL_LIST(TEST_NAME)};
  static const PetscInt dims[] = {1, 2, 3, 5, 100}, sizes[] = {1, 67, 200, 1025}, widths[] = {1, 3, 16, 17};
  GramBackend           cpu[3], ref;
  GramKernel            kernel = {.amplitude = 1};
  PetscBool             found;

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  PetscCall(GramBackendCreate(PETSC_COMM_WORLD, "ref", GRAM_DOUBLE, &ref));
  for (GramPrecision p = GRAM_DOUBLE; p <= GRAM_SINGLE; p++)
    PetscCall(GramBackendCreate(PETSC_COMM_WORLD, "cpu", p, &cpu[p]));
  for (int type = 0; type < GRAM_RADIAL_COUNT; type++) {
    PetscCall(GramKernelSetType(&kernel, names[type], NAN, &found));
    CHECK(found, "no kernel %s", names[type]);
    for (size_t d = 0; d < PETSC_STATIC_ARRAY_LENGTH(dims); d++) {
      for (size_t s = 0; s < PETSC_STATIC_ARRAY_LENGTH(sizes); s++) {
        for (size_t w = 0; w < PETSC_STATIC_ARRAY_LENGTH(widths); w++) {
          for (int square = 0; square < 2; square++) {
            for (int precision = GRAM_DOUBLE; precision <= GRAM_SINGLE; precision++) {
              /* rounding of the distance, relative to phi: eps r^2 (1 + r), r^2 about dim / 2 here */
              const PetscReal eps   = precision == GRAM_DOUBLE ? 2.3e-16 : 1.2e-7,
                              limit = eps * (8 + 2 * (PetscReal)dims[d]);
              PetscReal error;

              if (sizes[s] > 1000 && (dims[d] > 5 || widths[w] == 3)) continue; /* keeps ref below seconds */
              kernel.dim = dims[d];
              PetscCall(Compare(&kernel, cpu[precision], ref, sizes[s], 131, widths[w], (PetscBool)square, 0,
                                &error));
              CHECK(error <= limit, "%s dim %d size %d width %d %s %s: error %.2e > %.2e", names[type],
                    (int)dims[d], (int)sizes[s], (int)widths[w], square ? "square" : "rectangular",
                    precision ? "single" : "double", error, limit);
            }
          }
        }
      }
    }
    kernel.dim = 3; /* coordinates near 1e6: differences are formed before anything is squared */
    for (int precision = GRAM_DOUBLE; precision <= GRAM_SINGLE; precision++) {
      PetscReal error;

      PetscCall(Compare(&kernel, cpu[precision], ref, 200, 131, 1, PETSC_FALSE, 1e6, &error));
      CHECK(error <= (precision ? 2e-6 : 4e-9), "%s at offset 1e6: error %.2e", names[type],
            error); /* eps 1e6 / 0.5 of input rounding */
    }
  }
  for (int p = GRAM_DOUBLE; p <= GRAM_SINGLE; p++) PetscCall(GramBackendDestroy(&cpu[p]));
  PetscCall(GramBackendDestroy(&ref));
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
