/* gramarye weights: weights of given nodes, and their worst-case error. */
#include "result.h"
#include "rule.h"
#include "verbs.h"

/* nodes are taken as they stand: what would move them is refused */
static PetscErrorCode RefuseScaling(MPI_Comm comm)
{
  char      standardize[16] = "none";
  PetscBool sphere          = PETSC_FALSE, none;

  PetscFunctionBegin;
  PetscCall(PetscOptionsGetBool(NULL, NULL, "-data_sphere", &sphere, NULL));
  PetscCall(PetscOptionsGetString(NULL, NULL, "-data_standardize", standardize, sizeof standardize, NULL));
  PetscCall(PetscStrcmp(standardize, "none", &none));
  GramCheckInput(!sphere, comm, "data.sphere: true, but nodes lie in a box");
  GramCheckInput(none, comm, "data.standardize: '%s', but nodes are taken as they stand", standardize);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* a box that was forgotten */
static PetscErrorCode WarnOutside(const GramDataset *data, const GramMeasure *measure)
{
  PetscInt outside = 0;

  PetscFunctionBegin;
  for (PetscInt i = 0; i < data->n_local && !measure->n_samples; i++) {
    PetscBool out = PETSC_FALSE;

    for (PetscInt k = 0; k < data->dim; k++) {
      const PetscReal x = data->x[GramAt(i, data->dim, k)];

      out = (PetscBool)(out || x < measure->lower[k] || x > measure->upper[k]);
    }
    outside += out;
  }
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &outside, 1, MPIU_INT, MPI_SUM, data->comm));
  if (outside)
    PetscCall(PetscFPrintf(data->comm, stderr,
                           "gramarye: warning: data.points: %" PetscInt_FMT " of %" PetscInt_FMT
                           " nodes lie outside of nodes.lower ... nodes.upper\n",
                           outside, data->n));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramVerbWeights(MPI_Comm comm, GramOutcome *outcome)
{
  GramDataset     data;    /* the nodes, in input order */
  GramMeasure     measure; /* what is integrated against */
  GramKernel      kernel;
  GramRuleOptions options;
  GramSchedule    schedule; /* how products are spread over the ranks */
  GramBackend     backend;
  GramPoints      X;    /* [N, dim] nodes along the curve */
  GramMean        mean; /* z and I */
  GramRule        rule;
  GramRun         run;
  GramH5          file;
  PetscReal      *w; /* [n_local] on the curve */
  PetscInt        n_local;
  char            path[PETSC_MAX_PATH_LEN], line[256];

  PetscFunctionBegin;
  PetscCall(GramRunBegin(&run, "weights"));

  /* the nodes: -data_*; the measure: -nodes_*; the kernel: -kernel_*, -ridge_* */
  PetscCall(GramOutputFromOptions(comm, path, sizeof path));
  PetscCall(GramScheduleFromOptions(comm, &schedule));
  PetscCall(RefuseScaling(comm));
  PetscCall(GramDatasetReadPoints(comm, NULL, NULL, NULL, &data));
  PetscCall(GramMeasureFromOptions(comm, data.dim, schedule.block, &measure));
  PetscCall(GramKernelSetFromOptions(comm, data.dim, &kernel));
  PetscCall(GramRuleFromOptions(comm, data.n, (PetscBool)(measure.n_samples > 0), &kernel, &options));
  PetscCall(GramBackendCreateFromOptions(comm, &backend));
  PetscCall(GramKernelView(&kernel, line, sizeof line));
  PetscCall(GramSay(comm, "problem", "%" PetscInt_FMT " nodes in %" PetscInt_FMT " dimensions, weights %s",
                    data.n, data.dim, GramWeightsMethodName(options.method)));
  PetscCall(GramSay(comm, "kernel", "%s", line));
  PetscCall(GramRuleEstimate(comm, backend, &kernel, &options, data.n, 0, &run));
  PetscCall(GramH5CheckSpace(comm, path, "output.file", GramRuleBytes(data.n, data.dim, 0)));
  PetscCall(GramPointsCreate(comm, data.dim, data.n_local, data.x, kernel.length_scale, schedule.block, &X));
  PetscCall(WarnOutside(&data, &measure));
  if (kernel.alpha == 0 && options.method != GRAM_WEIGHTS_EQUAL) PetscCall(GramDatasetRefuseEqual(&data, X));
  PetscCall(GramMeasureMean(comm, &measure, &kernel, backend, &mean));
  PetscCall(GramRunLap(&run.read_seconds));

  /* the weights: -weights_*; of many nodes -solve_method, -ksp_*, -pc_* */
  PetscCall(GramPointsGetSizes(X, NULL, NULL, NULL, &n_local, NULL));
  PetscCall(PetscMalloc1(n_local, &w));
  PetscCall(GramQuadratureWeights(X, &kernel, backend, mean, options.method, options.sum_to_one,
                                  options.automatic, NULL, w, &rule));
  PetscCall(GramRunLap(&run.solve_seconds));

  /* the result: -output_* */
  run.method            = GramWeightsMethodName(options.method);
  run.converged         = rule.converged;
  run.iterations        = rule.iterations;
  run.relative_residual = rule.relative_residual;
  run.reason            = rule.reason;
  PetscCall(GramRunEnd(comm, backend, &run));
  PetscCall(GramH5Create(comm, path, "output.file", GramRuleBytes(data.n, data.dim, 0), &file));
  kernel.alpha = rule.alpha;
  PetscCall(GramRuleWrite(file, X, data.n_local, data.x, w, &kernel, &rule));
  PetscCall(GramMeasureWrite(file, &measure));
  PetscCall(GramRunWrite(file, comm, &run));
  PetscCall(GramH5Close(&file));
  PetscCall(GramRuleSay(comm, &rule));
  PetscCall(GramSay(comm, "time", "%.2f s: read %.2f, solve %.2f", run.total_seconds, run.read_seconds,
                    run.solve_seconds));
  PetscCall(GramSay(comm, "output", "%s", path));
  *outcome = rule.converged ? GRAM_DONE : GRAM_UNCONVERGED;

  PetscCall(PetscFree(w));
  PetscCall(GramRunClear(&run));
  PetscCall(GramMeanDestroy(&mean));
  PetscCall(GramPointsDestroy(&X));
  PetscCall(GramBackendDestroy(&backend));
  PetscCall(GramMeasureClear(&measure));
  PetscCall(GramDatasetClear(&data));
  PetscFunctionReturn(PETSC_SUCCESS);
}
