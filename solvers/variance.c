#include "variance.h"

#define SAFETY 0.1                         /* of the tolerance: the bound rests on an estimate */
#define FLOOR  (4 * PETSC_MACHINE_EPSILON) /* of the terms that v is the difference of */

/* Targets at once: what is open at them without points, and the size of its terms, both [columns] */
typedef struct {
  const PetscReal *prior, *size;
} Panel;

static PetscErrorCode Test(void *ctx, PetscInt c, PetscReal form, PetscReal bound, PetscBool *done)
{
  const Panel *panel = (const Panel *)ctx;

  PetscFunctionBegin;
  *done = (PetscBool)(bound <= PetscMax(SAFETY * GRAM_VARIANCE_RTOL * (panel->prior[c] - form),
                                        FLOOR * panel->size[c]));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* G = k(X, t) of columns first ... of K */
static PetscErrorCode Representers(Mat K, PetscInt first, Mat G)
{
  PetscInt   n, columns, ld, *index;
  PetscReal *g;

  PetscFunctionBegin;
  PetscCall(MatGetLocalSize(G, &n, NULL));
  PetscCall(MatGetSize(G, NULL, &columns));
  PetscCall(PetscMalloc1(n + columns, &index));
  for (PetscInt i = 0; i < n; i++) index[i] = i;
  for (PetscInt c = 0; c < columns; c++) index[n + c] = first + c;
  PetscCall(MatDenseGetLDA(G, &ld));
  PetscCall(MatDenseGetArrayWrite(G, &g));
  if (n) PetscCall(GramMatGetEntries(K, n, index, columns, index + n, g, ld));
  PetscCall(MatDenseRestoreArrayWrite(G, &g));
  PetscCall(PetscFree(index));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* v [columns] of targets t [columns][dim], columns first ... of K; all the same on all ranks */
static PetscErrorCode PanelVariance(GramSolver solver, GramTail tail, Mat B, Mat K, PetscReal k_tt,
                                    PetscInt first, PetscInt columns, const PetscReal t[], PetscReal v[],
                                    PetscInt *missed)
{
  PetscReal *prior, *size, *forms, *errors;
  PetscInt   N, n;
  Panel      panel;
  Mat        G, X;

  PetscFunctionBegin;
  PetscCall(PetscMalloc4(columns, &prior, columns, &size, columns, &forms, columns, &errors));
  PetscCall(MatGetSize(B, &N, NULL));
  PetscCall(MatGetLocalSize(B, &n, NULL));
  PetscCall(MatCreateDense(PetscObjectComm((PetscObject)B), n, PETSC_DECIDE, N, columns, NULL, &G));
  PetscCall(Representers(K, first, G));
  for (PetscInt c = 0; c < columns; c++) {
    prior[c] = k_tt;
    size[c]  = PetscAbsReal(k_tt);
  }
  if (tail) PetscCall(GramTailTargets(tail, t, G, prior, size));
  PetscCall(MatDuplicate(G, MAT_DO_NOT_COPY_VALUES, &X));
  panel = (Panel){.prior = prior, .size = size};
  PetscCall(GramSolverInverse(solver, G, Test, &panel, X, forms, errors));
  for (PetscInt c = 0; c < columns; c++) {
    v[c] = PetscMax(prior[c] - forms[c], 0);
    if (!(errors[c] <= PetscMax(GRAM_VARIANCE_RTOL * v[c], FLOOR / SAFETY * size[c]))) (*missed)++;
  }
  PetscCall(MatDestroy(&X));
  PetscCall(MatDestroy(&G));
  PetscCall(PetscFree4(prior, size, forms, errors));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramVarianceAt(GramSolver solver, GramBackend backend, GramPoints T, PetscReal v[],
                              PetscInt *missed)
{
  PetscInt        m, m_local, start, most, passes;
  PetscReal      *t, *panel, jet[3];
  GramKernel      kernel;
  GramPart        part;
  GramPoints      X;
  GramTail        tail;
  GramSolveMethod method;
  Mat             B, K;

  PetscFunctionBegin;
  *missed = 0;
  PetscCall(GramSolverGetReduced(solver, &tail, &B));
  PetscCall(GramSolverGetMethod(solver, &method));
  PetscCall(GramMatGetPoints(B, &X));
  PetscCall(GramMatGetKernel(B, &kernel));
  GramKernelJet(&kernel, 0, jet);
  part             = kernel.gradients ? GRAM_JOINT : GRAM_VALUE;
  kernel.gradients = PETSC_FALSE; /* at targets */
  PetscCall(GramMatCreateCross(X, part, T, &kernel, backend, &K));
  PetscCall(GramPointsGetSizes(T, NULL, NULL, &m, &m_local, &start));
  PetscCall(GramPointsAllGather(T, NULL, &t));
  most   = method == GRAM_SOLVE_DIRECT ? GRAM_INVERSE_COLUMNS : GRAM_PANEL;
  passes = m / most + (m % most > 0);
  PetscCall(PetscMalloc1(most, &panel));
  for (PetscInt pass = 0, first = 0, end; pass < passes; pass++, first = end) { /* in even shares */
    end = (PetscInt)((PetscInt64)m * (pass + 1) / passes);
    PetscCall(PanelVariance(solver, tail, B, K, PetscSqr(kernel.amplitude) * jet[0], first, end - first,
                            t + GramAt(first, kernel.dim, 0), panel, missed));
    for (PetscInt i = PetscMax(first, start); i < PetscMin(end, start + m_local); i++)
      v[i - start] = panel[i - first];
  }
  PetscCall(PetscFree(panel));
  PetscCall(PetscFree(t));
  PetscCall(MatDestroy(&K));
  PetscFunctionReturn(PETSC_SUCCESS);
}
