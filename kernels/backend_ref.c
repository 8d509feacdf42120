/*
  The reference: two plain loops over the textbook formulas, in double whatever precision is asked for.

  It calls nothing of radial.h, so that it can be the oracle for everything that does.
*/
#include "backend_impl.h"
#include "progress.h"

typedef struct {
  PetscReal *x, *z; /* [m][dim], [n][dim]; z = x when square */
} TilesRef;

/* phi(r): Rasmussen and Williams (2006), eqs. 4.9, 4.16 to 4.18; Wendland (2005), tables 8.2 and 9.1 */
static PetscReal PhiRef(GramRadial type, PetscReal r, PetscReal beta)
{
  const PetscReal t = PetscSqrtReal(3) * r, u = PetscSqrtReal(5) * r, v = PetscSqrtReal(7) * r, w = 3 * r;

  switch (type) {
  case GRAM_RADIAL_GAUSSIAN: return PetscExpReal(-r * r / 2);
  case GRAM_RADIAL_EXPONENTIAL: return PetscExpReal(-r);
  case GRAM_RADIAL_MATERN32: return (1 + t) * PetscExpReal(-t);
  case GRAM_RADIAL_MATERN52: return (1 + u + u * u / 3) * PetscExpReal(-u);
  case GRAM_RADIAL_MATERN72: return (1 + v + 2 * v * v / 5 + v * v * v / 15) * PetscExpReal(-v);
  case GRAM_RADIAL_MATERN92:
    return (1 + w + 3 * w * w / 7 + 2 * w * w * w / 21 + w * w * w * w / 105) * PetscExpReal(-w);
  case GRAM_RADIAL_INVERSE_MULTIQUADRIC: return 1 / PetscSqrtReal(1 + r * r);
  case GRAM_RADIAL_RATIONAL_QUADRATIC: return PetscExpReal(-beta * log1p(r * r / (2 * beta)));
  case GRAM_RADIAL_WENDLAND2: return r < 1 ? PetscPowReal(1 - r, 4) * (4 * r + 1) : 0;
  case GRAM_RADIAL_WENDLAND4: return r < 1 ? PetscPowReal(1 - r, 6) * (35 * r * r + 18 * r + 3) / 3 : 0;
  case GRAM_RADIAL_MULTIQUADRIC: return -PetscSqrtReal(1 + r * r);
  case GRAM_RADIAL_CUBIC: return r * r * r;
  case GRAM_RADIAL_THIN_PLATE: return r > 0 ? r * r * PetscLogReal(r) : 0;
  default: return NAN;
  }
}

/* phi' / r and (phi'' - phi' / r) / r^2; at r = 0 their limits, or 0 where these do not exist and r^2 wipes them out */
static void DerivativesRef(GramRadial type, PetscReal r, PetscReal beta, PetscReal *first, PetscReal *second)
{
  const PetscReal t = PetscSqrtReal(3) * r, u = PetscSqrtReal(5) * r, v = PetscSqrtReal(7) * r, w = 3 * r;

  *first = *second = NAN;
  switch (type) {
  case GRAM_RADIAL_GAUSSIAN:
    *first  = -PetscExpReal(-r * r / 2);
    *second = PetscExpReal(-r * r / 2);
    break;
  case GRAM_RADIAL_EXPONENTIAL:
    *first  = r > 0 ? -PetscExpReal(-r) / r : 0;
    *second = r > 0 ? (1 + 1 / r) / (r * r) * PetscExpReal(-r) : 0;
    break;
  case GRAM_RADIAL_MATERN32:
    *first  = -3 * PetscExpReal(-t);
    *second = r > 0 ? 3 * PetscSqrtReal(3) / r * PetscExpReal(-t) : 0;
    break;
  case GRAM_RADIAL_MATERN52:
    *first  = -5. / 3 * (1 + u) * PetscExpReal(-u);
    *second = 25. / 3 * PetscExpReal(-u);
    break;
  case GRAM_RADIAL_MATERN72:
    *first  = -7. / 5 * (1 + v + v * v / 3) * PetscExpReal(-v);
    *second = 49. / 15 * (1 + v) * PetscExpReal(-v);
    break;
  case GRAM_RADIAL_MATERN92:
    *first  = -9. / 7 * (1 + w + 2 * w * w / 5 + w * w * w / 15) * PetscExpReal(-w);
    *second = 81. / 35 * (1 + w + w * w / 3) * PetscExpReal(-w);
    break;
  case GRAM_RADIAL_INVERSE_MULTIQUADRIC:
    *first  = -PetscPowReal(1 + r * r, -1.5);
    *second = 3 * PetscPowReal(1 + r * r, -2.5);
    break;
  case GRAM_RADIAL_RATIONAL_QUADRATIC:
    *first  = -PetscExpReal(-(beta + 1) * log1p(r * r / (2 * beta)));
    *second = (1 + 1 / beta) * PetscExpReal(-(beta + 2) * log1p(r * r / (2 * beta)));
    break;
  case GRAM_RADIAL_WENDLAND2:
    *first  = r < 1 ? -20 * PetscPowReal(1 - r, 3) : 0;
    *second = r > 0 && r < 1 ? 60 * PetscPowReal(1 - r, 2) / r : 0;
    break;
  case GRAM_RADIAL_WENDLAND4:
    *first  = r < 1 ? -56. / 3 * PetscPowReal(1 - r, 5) * (5 * r + 1) : 0;
    *second = r < 1 ? 560 * PetscPowReal(1 - r, 4) : 0;
    break;
  case GRAM_RADIAL_MULTIQUADRIC:
    *first  = -1 / PetscSqrtReal(1 + r * r);
    *second = PetscPowReal(1 + r * r, -1.5);
    break;
  case GRAM_RADIAL_CUBIC:
    *first  = 3 * r;
    *second = r > 0 ? 3 / r : 0;
    break;
  case GRAM_RADIAL_THIN_PLATE:
    *first  = r > 0 ? 2 * PetscLogReal(r) + 1 : 0;
    *second = r > 0 ? 2 / (r * r) : 0;
    break;
  default: break;
  }
}

/* B[p][s] of rows i and columns j: p, s = 0 the value, 1 ... dim the gradient */
static void BlockRef(GramTiles t, PetscInt i, PetscInt j, PetscReal block[], PetscReal *phi)
{
  const TilesRef  *ref = (const TilesRef *)t->data;
  const PetscInt   dim = t->kernel.dim;
  const PetscReal *x = ref->x + GramAt(i, dim, 0), *z = ref->z + GramAt(j, dim, 0);
  PetscReal        r2 = 0, first, second;

  for (PetscInt c = 0; c < dim; c++) r2 += (x[c] - z[c]) * (x[c] - z[c]);
  *phi = PhiRef(t->kernel.radial, PetscSqrtReal(r2), t->kernel.beta);
  if (!block) return;
  DerivativesRef(t->kernel.radial, PetscSqrtReal(r2), t->kernel.beta, &first, &second);
  for (PetscInt p = 0; p <= dim; p++) {
    for (PetscInt s = 0; s <= dim; s++) {
      const PetscReal dp = p ? x[p - 1] - z[p - 1] : 0, ds = s ? x[s - 1] - z[s - 1] : 0;

      block[GramAt(p, 1 + dim, s)] = p && s ? -(first * (p == s) + second * dp * ds)
                                     : p    ? first * dp
                                     : s    ? -first * ds
                                            : *phi;
    }
  }
}

static PetscErrorCode TilesCreate_Ref(GramTiles t, PetscInt m, const PetscReal *x, PetscInt n,
                                      const PetscReal *z)
{
  TilesRef *ref;

  PetscFunctionBegin;
  PetscCall(PetscNew(&ref));
  PetscCall(PetscMalloc1(GramAt(m, t->kernel.dim, 0), &ref->x));
  PetscCall(PetscArraycpy(ref->x, x, GramAt(m, t->kernel.dim, 0)));
  ref->z = ref->x;
  if (!t->square) {
    PetscCall(PetscMalloc1(GramAt(n, t->kernel.dim, 0), &ref->z));
    PetscCall(PetscArraycpy(ref->z, z, GramAt(n, t->kernel.dim, 0)));
  }
  t->data = ref;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode TilesDestroy_Ref(GramTiles t)
{
  TilesRef *ref = (TilesRef *)t->data;

  PetscFunctionBegin;
  if (!t->square) PetscCall(PetscFree(ref->z));
  PetscCall(PetscFree(ref->x));
  PetscCall(PetscFree(ref));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Add_Ref(GramTiles t, PetscInt n_tiles, const GramTile list[])
{
  const PetscInt dim = t->kernel.dim, q = t->q, a = GramPartSize(t->rows, dim),
                 b = GramPartSize(t->cols, dim), p0 = t->rows == GRAM_GRADIENT, s0 = t->cols == GRAM_GRADIENT;
  const PetscBool plain = (PetscBool)(t->rows == GRAM_VALUE && t->cols == GRAM_VALUE);
  PetscReal      *block, phi;

  PetscFunctionBegin;
  PetscCall(PetscMalloc1((1 + dim) * (1 + dim), &block));
  for (const GramTile *tile = list; tile < list + n_tiles; tile++) {
    for (PetscInt i = tile->row; i < tile->row + tile->n_rows; i++) {
      for (PetscInt j = tile->col; j < tile->col + tile->n_cols; j++) {
        BlockRef(t, i, j, plain ? NULL : block, &phi);
        for (PetscInt p = 0; p < a; p++) {
          for (PetscInt s = 0; s < b; s++) {
            const PetscReal k  = plain ? phi : block[GramAt(p0 + p, 1 + dim, s0 + s)];
            const size_t    ip = GramAt(i, a, p) * (size_t)q, js = GramAt(j, b, s) * (size_t)q;

            for (PetscInt r = 0; r < q; r++) {
              t->y[ip + (size_t)r] += k * t->v[js + (size_t)r];
              if (tile->use == GRAM_TILE_BOTH) t->u[js + (size_t)r] += k * t->w[ip + (size_t)r];
            }
          }
        }
      }
    }
    PetscCall(GramProgressAdd((PetscReal)tile->n_rows * (PetscReal)tile->n_cols));
  }
  PetscCall(PetscFree(block));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Entries_Ref(GramTiles t, PetscInt n_rows, const PetscInt rows[], PetscInt n_cols,
                                  const PetscInt cols[], PetscReal *a, PetscInt lda)
{
  const PetscInt dim = t->kernel.dim, na = GramPartSize(t->rows, dim), nb = GramPartSize(t->cols, dim),
                 p0 = t->rows == GRAM_GRADIENT, s0 = t->cols == GRAM_GRADIENT;
  const PetscBool plain = (PetscBool)(t->rows == GRAM_VALUE && t->cols == GRAM_VALUE);
  PetscReal      *block, phi;

  PetscFunctionBegin;
  PetscCall(PetscMalloc1((1 + dim) * (1 + dim), &block));
  for (PetscInt j = 0; j < n_cols; j++) {
    for (PetscInt i = 0; i < n_rows; i++) {
      BlockRef(t, rows[i] / na, cols[j] / nb, plain ? NULL : block, &phi);
      a[GramAt(j, lda, i)] = plain ? phi : block[GramAt(p0 + rows[i] % na, 1 + dim, s0 + cols[j] % nb)];
    }
  }
  PetscCall(PetscFree(block));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Coulomb_Ref(GramBackend backend, PetscInt dim, PetscInt m, const PetscReal *x,
                                  PetscInt n, const PetscReal *z, const GramCloud *cloud, PetscReal *out)
{
  PetscFunctionBegin;
  (void)backend;
  for (PetscInt i = 0; i < m; i++) {
    PetscReal *f = out + GramAt(i, dim + GRAM_COULOMB_EXTRA, 0), *third = f + dim + GRAM_COULOMB_NEAREST;

    PetscCall(PetscArrayzero(f, dim + GRAM_COULOMB_EXTRA));
    if (!cloud) *third = PETSC_MAX_REAL;
    for (PetscInt j = 0; j < n; j++) {
      const PetscReal *xi = x + GramAt(i, dim, 0), *zj = z + GramAt(j, dim, 0),
                      charge = cloud ? cloud->charge[j] : 1;
      PetscReal s            = cloud ? cloud->softening2 : 0;

      for (PetscInt c = 0; c < dim; c++) s += (xi[c] - zj[c]) * (xi[c] - zj[c]);
      if (!(s > 0)) continue;
      for (PetscInt c = 0; c < dim; c++)
        f[c] += charge * (xi[c] - zj[c]) / PetscPowReal(s, (PetscReal)dim / 2);
      f[dim + GRAM_COULOMB_ENERGY] +=
          charge * (dim == 2 ? -PetscLogReal(s) / 2
                             : PetscPowReal(s, (PetscReal)(2 - dim) / 2) / (PetscReal)(dim - 2));
      if (cloud) *third += charge * PetscPowReal(s, -(PetscReal)dim / 2 - 1);
      else *third = PetscMin(*third, s);
    }
    PetscCall(GramProgressAdd((PetscReal)n));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramBackendCreate_Ref(MPI_Comm comm, GramBackend backend, PetscBool *found)
{
  PetscFunctionBegin;
  (void)comm;
  backend->detail    = "plain loops";
  backend->precision = GRAM_DOUBLE;
  backend->exp2_fma  = 12;
  backend->ops       = (GramBackendOps){.tilescreate  = TilesCreate_Ref,
                                        .tilesdestroy = TilesDestroy_Ref,
                                        .add          = Add_Ref,
                                        .entries      = Entries_Ref,
                                        .coulomb      = Coulomb_Ref};
  *found             = PETSC_TRUE;
  PetscFunctionReturn(PETSC_SUCCESS);
}
