#include <string.h>

#include "gram_mat.h"
#include "plan.h"

static PetscErrorCode NumbersFromOptions(PetscOptionItems *PetscOptionsObject, const char *option,
                                         const char *help, PetscInt fallback, PetscInt list[], PetscInt *n)
{
  PetscBool set;

  PetscFunctionBegin;
  *n      = GRAM_PLAN_LIST + 1;
  list[0] = fallback;
  PetscCall(PetscOptionsIntArray(option, help, NULL, list, n, &set));
  if (!set) *n = 1;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Without the list: the one word of another key, or a fallback. */
static PetscErrorCode WordsFromOptions(PetscOptionItems *PetscOptionsObject, const char *option,
                                       const char *help, const char *other, const char *fallback,
                                       char *list[], PetscInt *n)
{
  char      word[64];
  PetscBool set;

  PetscFunctionBegin;
  *n = GRAM_PLAN_LIST + 1;
  PetscCall(PetscOptionsStringArray(option, help, NULL, list, n, &set));
  if (set) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscStrncpy(word, fallback, sizeof word));
  PetscCall(PetscOptionsGetString(NULL, NULL, other, word, sizeof word, NULL));
  PetscCall(PetscStrallocpy(word, list));
  *n = 1;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode CheckNumbers(MPI_Comm comm, const char *key, const PetscInt list[], PetscInt n,
                                   PetscInt most)
{
  PetscFunctionBegin;
  GramCheckInput(n <= GRAM_PLAN_LIST, comm, "bench.%s: more than %d numbers", key, GRAM_PLAN_LIST);
  for (PetscInt i = 0; i < n; i++) {
    GramCheckInput(list[i] >= 1 && list[i] <= most, comm,
                   "bench.%s: %" PetscInt_FMT " is not in 1 ... %" PetscInt_FMT, key, list[i], most);
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode CheckPrecisions(MPI_Comm comm, const GramPlan *plan)
{
  PetscFunctionBegin;
  GramCheckInput(plan->n_precisions <= GRAM_PLAN_LIST, comm, "bench.precisions: more than %d words",
                 GRAM_PLAN_LIST);
  for (PetscInt i = 0; i < plan->n_precisions; i++) {
    int p = 0;

    while (GramPrecisionName(p) && strcmp(plan->precisions[i], GramPrecisionName(p)) != 0) p++;
    GramCheckInput(GramPrecisionName(p), comm, "bench.precisions: '%s' is none of double, mixed, single",
                   plan->precisions[i]);
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* kernel.*, ridge.* with a profile of the list; its name [32] has nu included: matern32. Products have no tail. */
static PetscErrorCode KernelByName(MPI_Comm comm, const GramPlan *plan, const char *word, PetscInt dim,
                                   GramKernel *kernel, char name[])
{
  PetscReal nu = 1.5, beta = 1;
  PetscBool found;
  char      names[256];

  PetscFunctionBegin;
  PetscCall(GramKernelSetFromOptions(comm, dim, kernel));
  PetscCall(PetscOptionsGetReal(NULL, NULL, "-kernel_nu", &nu, NULL));
  PetscCall(PetscOptionsGetReal(NULL, NULL, "-kernel_beta", &beta, NULL));
  PetscCall(GramKernelSetType(kernel, word, nu, &found));
  PetscCall(GramKernelNames(names, sizeof names));
  GramCheckInput(found || strcmp(word, "matern") != 0, comm,
                 "kernel.nu: %.6g is none of 0.5, 1.5, 2.5, 3.5, 4.5", (double)nu);
  GramCheckInput(found, comm, "bench.kernels: '%s' is none of %s", word, names);
  if (GramRadialGetInfo(kernel->radial)->beta) kernel->beta = beta;
  PetscCall(GramKernelCheckDim(comm, "bench.kernels", kernel));
  if (plan->gradients) PetscCall(GramKernelTakeGradients(comm, kernel));
  kernel->tail_degree =
      plan->solve ? PetscMax(kernel->tail_degree, GramRadialGetInfo(kernel->radial)->order - 1) : -1;
  PetscCall(PetscStrncpy(name, word, 32));
  if (!strcmp(word, "matern")) PetscCall(PetscSNPrintf(name, 32, "matern%d2", (int)(2 * nu)));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode SymmetricFromWord(MPI_Comm comm, const char *word, GramPlan *plan)
{
  PetscFunctionBegin;
  plan->n_symmetric = 0;
  if (strcmp(word, "false") != 0) plan->symmetric[plan->n_symmetric++] = PETSC_TRUE;
  if (strcmp(word, "true") != 0) plan->symmetric[plan->n_symmetric++] = PETSC_FALSE;
  GramCheckInput(plan->n_symmetric == 1 || !strcmp(word, "both"), comm,
                 "bench.symmetric: '%s' is none of true, false, both", word);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode PlanCheck(MPI_Comm comm, const GramPlan *plan)
{
  GramBackend  backend;
  GramSchedule schedule;
  GramKernel   kernel;
  char         name[32];

  PetscFunctionBegin;
  PetscCall(CheckNumbers(comm, "sizes", plan->sizes, plan->n_sizes, PETSC_MAX_INT));
  PetscCall(CheckNumbers(comm, "dims", plan->dims, plan->n_dims, GRAM_MAX_DIM));
  PetscCall(CheckNumbers(comm, "rhs", plan->rhs, plan->n_rhs, PETSC_MAX_INT));
  PetscCall(CheckNumbers(comm, "repeats", &plan->repeats, 1, 1000000));
  for (PetscInt i = 0; i < plan->n_sizes; i++) {
    for (PetscInt j = 0; j < plan->n_rhs; j++)
      GramCheckInput(plan->rhs[j] <= PETSC_MAX_INT / plan->sizes[i], comm,
                     "bench.rhs: %" PetscInt_FMT " columns of bench.sizes %" PetscInt_FMT
                     " are more than %" PetscInt_FMT " numbers",
                     plan->rhs[j], plan->sizes[i], PETSC_MAX_INT);
  }
  PetscCall(GramScheduleFromOptions(comm, &schedule));     /* are they right? */
  PetscCall(GramBackendCreateFromOptions(comm, &backend)); /* is it there? */
  PetscCall(GramBackendDestroy(&backend));
  PetscCall(CheckPrecisions(comm, plan));
  GramCheckInput(plan->n_kernels <= GRAM_PLAN_LIST, comm, "bench.kernels: more than %d words",
                 GRAM_PLAN_LIST);
  for (PetscInt i = 0; i < plan->n_kernels; i++) {
    for (PetscInt j = 0; j < plan->n_dims; j++)
      PetscCall(KernelByName(comm, plan, plan->kernels[i], plan->dims[j], &kernel, name));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPlanFromOptions(MPI_Comm comm, GramPlan *plan)
{
  char kind[16] = "product", symmetric[16] = "both";

  PetscFunctionBegin;
  PetscCall(PetscMemzero(plan, sizeof *plan));
  plan->repeats = 5;
  PetscOptionsBegin(comm, "bench_", "Benchmarks: every combination of the lists is a case", NULL);
  PetscCall(PetscOptionsString("-kind", "product, solve", NULL, kind, kind, sizeof kind, NULL));
  PetscCall(NumbersFromOptions(PetscOptionsObject, "-sizes", "Points", 20000, plan->sizes, &plan->n_sizes));
  PetscCall(
      NumbersFromOptions(PetscOptionsObject, "-dims", "Coordinates per point", 3, plan->dims, &plan->n_dims));
  PetscCall(NumbersFromOptions(PetscOptionsObject, "-rhs", "Columns", 1, plan->rhs, &plan->n_rhs));
  PetscCall(WordsFromOptions(PetscOptionsObject, "-kernels", "As kernel_type", "-kernel_type", "gaussian",
                             plan->kernels, &plan->n_kernels));
  PetscCall(WordsFromOptions(PetscOptionsObject, "-precisions", "As product_precision", "-product_precision",
                             "double", plan->precisions, &plan->n_precisions));
  PetscCall(PetscOptionsString("-symmetric", "Each pair evaluated once, used twice: true, false, both", NULL,
                               symmetric, symmetric, sizeof symmetric, NULL));
  PetscCall(PetscOptionsBool("-gradients", "Points carry a value and a gradient", NULL, plan->gradients,
                             &plan->gradients, NULL));
  PetscCall(PetscOptionsInt("-repeats", "Timed runs, after one that is not", NULL, plan->repeats,
                            &plan->repeats, NULL));
  PetscOptionsEnd();
  plan->solve = (PetscBool)!strcmp(kind, "solve");
  GramCheckInput(plan->solve || !strcmp(kind, "product"), comm, "bench.kind: '%s' is none of product, solve",
                 kind);
  PetscCall(SymmetricFromWord(comm, symmetric, plan));
  PetscCall(PlanCheck(comm, plan));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPlanClear(GramPlan *plan)
{
  PetscFunctionBegin;
  for (PetscInt i = 0; i < plan->n_kernels; i++) PetscCall(PetscFree(plan->kernels[i]));
  for (PetscInt i = 0; i < plan->n_precisions; i++) PetscCall(PetscFree(plan->precisions[i]));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPlanGetCase(MPI_Comm comm, const GramPlan *plan, PetscInt64 i, GramPlanCase *c,
                               PetscBool *found)
{
  const PetscInt counts[] = {plan->n_symmetric, plan->n_rhs,  plan->n_precisions,
                             plan->n_sizes,     plan->n_dims, plan->n_kernels};
  PetscInt       at[PETSC_STATIC_ARRAY_LENGTH(counts)];

  PetscFunctionBegin;
  for (size_t list = 0; list < PETSC_STATIC_ARRAY_LENGTH(counts); i /= counts[list], list++)
    at[list] = (PetscInt)(i % counts[list]);
  *found = (PetscBool)(i == 0);
  if (!*found) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscMemzero(c, sizeof *c));
  c->symmetric = plan->symmetric[at[0]];
  c->q         = plan->rhs[at[1]];
  c->precision = plan->precisions[at[2]];
  c->n         = plan->sizes[at[3]];
  c->dim       = plan->dims[at[4]];
  PetscCall(KernelByName(comm, plan, plan->kernels[at[5]], c->dim, &c->kernel, c->name));
  PetscFunctionReturn(PETSC_SUCCESS);
}
