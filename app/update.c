#include <petscmat.h>

#include "gram_mat.h"
#include "model.h"
#include "result.h"
#include "update.h"

/* Rows of both sets, [x] of the data and then of the model on each rank, with what they carry: 1 for a row of the model, and
   coefficients [width]. */
typedef struct {
  PetscInt   n, n_data, width;
  PetscReal *x;     /* [n][dim_file] */
  PetscReal *carry; /* [n][1 + width] */
} Rows;

static PetscErrorCode RowsCreate(const GramDataset *data, const GramModel *model, PetscInt numbers,
                                 Rows *rows)
{
  const PetscInt dim = data->dim_file, old = GramKernelNumbers(&model->kernel), q = data->q;

  PetscFunctionBegin;
  rows->n_data = data->n_local;
  rows->n      = data->n_local + model->n_local;
  rows->width  = numbers * q;
  PetscCall(
      PetscMalloc2(GramAt(rows->n, dim, 0), &rows->x, GramAt(rows->n, 1 + rows->width, 0), &rows->carry));
  PetscCall(PetscArraycpy(rows->x, data->x_file, GramAt(data->n_local, dim, 0)));
  PetscCall(
      PetscArraycpy(rows->x + GramAt(data->n_local, dim, 0), model->x_file, GramAt(model->n_local, dim, 0)));
  PetscCall(PetscArrayzero(rows->carry, GramAt(rows->n, 1 + rows->width, 0)));
  for (PetscInt i = 0; i < model->n_local; i++) {
    PetscReal       *to   = rows->carry + GramAt(data->n_local + i, 1 + rows->width, 0);
    const PetscReal *from = model->coefficients + GramAt(i, old * q, 0);

    *to++ = 1;
    for (PetscInt p = 0; p < PetscMin(old, numbers); p++) {
      for (PetscInt r = 0; r < q; r++)
        to[GramAt(p, q, r)] =
            from[GramAt(p, q, r)] * model->scaling.value_scale[r] / data->scaling.value_scale[r];
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscBool Same(PetscInt dim, const PetscReal *a, const PetscReal *b)
{
  for (PetscInt c = 0; c < dim; c++) {
    if (a[c] != b[c]) return PETSC_FALSE;
  }
  return PETSC_TRUE;
}

/* what a row of the model carries goes to one of the data */
static void Inherit(PetscInt width, const PetscReal *from, PetscReal *heir, PetscInt64 *found)
{
  for (PetscInt w = 1; w <= width; w++) heir[w] += from[w];
  (*found)++;
}

/* On the curve equal points stand together: what those of the model carry goes to the first of the data. first, last [n]: the
   heirs of the first and of the last run, NULL without. */
static void Match(PetscInt n, PetscInt dim, const PetscReal *x, PetscInt width, PetscReal *carry,
                  PetscReal **first, PetscReal **last, PetscInt64 *found)
{
  *first = *last = NULL;
  for (PetscInt i = 0, end; i < n; i = end) {
    PetscReal *heir = NULL;

    for (end = i; end < n && Same(dim, x + GramAt(end, dim, 0), x + GramAt(i, dim, 0)); end++) {
      if (carry[GramAt(end, 1 + width, 0)] == 0 && !heir) heir = carry + GramAt(end, 1 + width, 0);
    }
    for (PetscInt k = i; k < end && heir; k++) {
      if (carry[GramAt(k, 1 + width, 0)] != 0) Inherit(width, carry + GramAt(k, 1 + width, 0), heir, found);
    }
    if (i == 0) *first = heir;
    *last = heir;
  }
}

/* A pair that two ranks share: the end of a rank's rows, and the beginning of the next one's that has some. */
static PetscErrorCode MatchAcross(MPI_Comm comm, PetscInt n, PetscInt dim, const PetscReal *x, PetscInt width,
                                  const PetscReal *carry, PetscReal *first, PetscReal *last,
                                  PetscInt64 *found)
{
  const PetscInt row = dim + 2 + width, ends = 1 + 2 * row; /* rows?, two of [x, heir?, carry] */
  PetscMPIInt    rank, size, before, after;
  PetscReal     *mine, *all;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCallMPI(MPI_Comm_size(comm, &size));
  PetscCall(PetscCalloc2(ends, &mine, GramAt(size, ends, 0), &all));
  mine[0] = n > 0;
  for (int end = 0; end < 2 && n; end++) {
    const PetscInt at = end ? n - 1 : 0;
    PetscReal     *to = mine + 1 + GramAt(end, row, 0);

    PetscCall(PetscArraycpy(to, x + GramAt(at, dim, 0), dim));
    to[dim] = (end ? last : first) != NULL;
    PetscCall(PetscArraycpy(to + dim + 1, carry + GramAt(at, 1 + width, 0), 1 + width));
  }
  PetscCallMPI(MPI_Allgather(mine, (PetscMPIInt)ends, MPIU_REAL, all, (PetscMPIInt)ends, MPIU_REAL, comm));
  for (before = rank - 1; before >= 0 && all[GramAt(before, ends, 0)] == 0; before--) continue;
  for (after = rank + 1; after < size && all[GramAt(after, ends, 0)] == 0; after++) continue;
  if (n && before >= 0) { /* a row of the model there without an heir, one here */
    const PetscReal *there = all + GramAt(before, ends, 1 + row);

    if (first && there[dim] == 0 && there[dim + 1] != 0 && Same(dim, there, x))
      Inherit(width, there + dim + 1, first, found);
  }
  if (n && after < size) {
    const PetscReal *there = all + GramAt(after, ends, 1);

    if (last && there[dim] == 0 && there[dim + 1] != 0 && Same(dim, there, x + GramAt(n - 1, dim, 0)))
      Inherit(width, there + dim + 1, last, found);
  }
  PetscCall(PetscFree2(mine, all));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramUpdateFromOptions(const GramDataset *data, GramPoints X, const GramKernel *kernel,
                                     Mat *guess)
{
  const PetscInt   numbers = GramKernelNumbers(kernel);
  PetscBool        set;
  PetscInt         n;
  PetscInt64       found = 0;
  const PetscReal *x;
  PetscReal       *curve, *first, *last;
  GramModel        model;
  GramPoints       both;
  Rows             rows;

  PetscFunctionBegin;
  *guess = NULL;
  PetscCall(PetscOptionsHasName(NULL, NULL, "-model_file", &set));
  if (!set) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(GramModelRead(data->comm, &model));
  GramCheckInput(model.dim_file == data->dim_file && model.q == data->q, data->comm,
                 "model.file: has %" PetscInt_FMT " coordinates and %" PetscInt_FMT
                 " columns of values, the data have %" PetscInt_FMT " and %" PetscInt_FMT,
                 model.dim_file, model.q, data->dim_file, data->q);
  PetscCall(RowsCreate(data, &model, numbers, &rows));
  PetscCall(GramPointsCreate(data->comm, data->dim_file, rows.n, rows.x, NULL, 1, &both));
  PetscCall(GramPointsGetSizes(both, NULL, NULL, NULL, &n, NULL));
  PetscCall(GramPointsGetArrayRead(both, &x));
  PetscCall(PetscMalloc1(GramAt(n, 1 + rows.width, 0), &curve));
  PetscCall(GramPointsToCurve(both, 1 + rows.width, rows.carry, curve));
  Match(n, data->dim_file, x, rows.width, curve, &first, &last, &found);
  PetscCall(MatchAcross(data->comm, n, data->dim_file, x, rows.width, curve, first, last, &found));
  PetscCall(GramPointsToInput(both, 1 + rows.width, curve, rows.carry));
  for (PetscInt i = 0; i < rows.n_data; i++) /* without the mark of the model */
    PetscCall(PetscArraymove(rows.carry + GramAt(i, rows.width, 0), rows.carry + GramAt(i, 1 + rows.width, 1),
                             rows.width));
  PetscCall(GramPanelFromInput(X, numbers, data->q, rows.carry, guess));
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &found, 1, MPIU_INT64, MPI_SUM, data->comm));
  PetscCall(GramSay(data->comm, "begins",
                    "with the model's coefficients at %" PetscInt64_FMT " of its %" PetscInt_FMT " points",
                    found, model.n));
  PetscCall(PetscFree(curve));
  PetscCall(PetscFree2(rows.x, rows.carry));
  PetscCall(GramPointsDestroy(&both));
  PetscCall(GramModelClear(&model));
  PetscFunctionReturn(PETSC_SUCCESS);
}
