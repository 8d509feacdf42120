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

/* On the curve equal points stand together: what those of the model carry goes to the first of the data. A run of equal
   points that ranks share is taken apart there: its points begin at 0. */
static void Match(PetscInt n, PetscInt dim, const PetscReal *x, PetscInt width, PetscReal *carry,
                  PetscInt64 *found)
{
  for (PetscInt i = 0, end; i < n; i = end) {
    PetscReal *heir = NULL;

    for (end = i; end < n; end++) {
      PetscBool same = PETSC_TRUE;

      for (PetscInt c = 0; c < dim; c++)
        same = (PetscBool)(same && x[GramAt(end, dim, c)] == x[GramAt(i, dim, c)]);
      if (!same) break;
      if (carry[GramAt(end, 1 + width, 0)] == 0 && !heir) heir = carry + GramAt(end, 1 + width, 0);
    }
    for (PetscInt k = i; k < end && heir; k++) {
      const PetscReal *from = carry + GramAt(k, 1 + width, 0);

      if (from[0] == 0) continue;
      for (PetscInt w = 1; w <= width; w++) heir[w] += from[w];
      (*found)++;
    }
  }
}

PetscErrorCode GramUpdateFromOptions(const GramDataset *data, GramPoints X, const GramKernel *kernel,
                                     Mat *guess)
{
  const PetscInt   numbers = GramKernelNumbers(kernel);
  PetscBool        set;
  PetscInt         n;
  PetscInt64       found = 0;
  const PetscReal *x;
  PetscReal       *curve;
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
  Match(n, data->dim_file, x, rows.width, curve, &found);
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
