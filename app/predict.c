/* gramarye predict: evaluate a model that solve has written. */
#include "result.h"
#include "verbs.h"

/* of the model's system, which only variances need; else all NULL */
static PetscErrorCode SolverCreate(const GramTargets *targets, GramPoints X, const GramKernel *kernel,
                                   GramBackend backend, GramBackend *exact, Mat *A, Mat *A_true,
                                   GramSolver *solver)
{
  PetscFunctionBegin;
  *exact  = NULL;
  *A      = NULL;
  *A_true = NULL;
  *solver = NULL;
  if (!targets->variance) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(GramMatCreate(X, kernel, backend, A));
  PetscCall(GramTrueOperatorCreate(X, kernel, backend, *A, exact, A_true));
  PetscCall(GramSolverCreate(*A, *A_true, solver));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Estimate(const GramModel *model, const GramTargets *targets, GramBackend backend,
                               GramRun *run)
{
  char line[256];

  PetscFunctionBegin;
  if (targets->variance)
    PetscCall(GramSolveEstimate(model->comm, backend, &model->kernel, model->n, targets->chunk, model->q,
                                PETSC_TRUE, &run->predicted_memory_bytes, NULL, line, sizeof line));
  else
    PetscCall(GramPredictEstimate(model->comm, backend, &model->kernel, model->n, targets->chunk, model->q));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramVerbPredict(MPI_Comm comm, GramOutcome *outcome)
{
  GramModel      model;          /* kernel, points and coefficients, in input order */
  GramTargets    targets;        /* where */
  GramPoints     X;              /* [N, dim] points along the curve, rows spread over the ranks */
  Mat            C;              /* [N, q] coefficients, laid out as X */
  GramBackend    backend, exact; /* ref, cpu or cuda; the same in double where backend is not */
  GramSchedule   schedule;       /* how products are spread over the ranks */
  Mat            A, A_true;      /* [N, N] = K(X, X) + alpha I, of variances */
  GramSolver     solver;         /* likewise */
  GramPrediction prediction;
  GramRun        run;
  GramH5         file;
  PetscReal     *x;
  char           path[PETSC_MAX_PATH_LEN];

  PetscFunctionBegin;
  PetscCall(GramRunBegin(&run, "predict"));

  /* the model: -model_file; where: -target_* */
  PetscCall(GramOutputFromOptions(comm, path, sizeof path));
  PetscCall(GramScheduleFromOptions(comm, &schedule));
  PetscCall(GramModelRead(comm, &model));
  PetscCall(GramTargetsOpen(comm, &model.scaling, model.dim_file, model.n_local, model.x_file, &targets));
  GramCheckInput(targets.n, comm, "target.file: no file given, and no target.grid");
  PetscCall(GramBackendCreateFromOptions(comm, &backend));
  PetscCall(Estimate(&model, &targets, backend, &run));
  PetscCall(GramH5CheckSpace(comm, path, "output.file", GramResultBytes(NULL, &targets, &run)));
  PetscCall(PetscMalloc1((size_t)model.n_local * (size_t)model.scaling.dim, &x));
  PetscCall(GramScalingApply(&model.scaling, model.n_local, model.dim_file, model.x_file, x));
  PetscCall(GramPointsCreate(comm, model.scaling.dim, model.n_local, x, model.kernel.length_scale,
                             schedule.block, &X));
  PetscCall(GramPanelFromInput(X, GramKernelNumbers(&model.kernel), model.q, model.coefficients, &C));
  PetscCall(GramRunLap(&run.read_seconds));

  /* the prediction, chunk by chunk into the result: -output_*; with variances -solve_method, -ksp_*, -pc_* */
  PetscCall(SolverCreate(&targets, X, &model.kernel, backend, &exact, &A, &A_true, &solver));
  PetscCall(GramH5Create(comm, path, "output.file", GramResultBytes(NULL, &targets, &run), &file));
  PetscCall(
      GramPredict(&(GramFit){X, &model.kernel, backend, C, model.tail, solver}, &targets, file, &prediction));
  PetscCall(GramRunLap(&run.predict_seconds));

  run.reason           = prediction.missed ? GRAM_REASON_VARIANCE : "evaluated";
  run.converged        = (PetscBool)!prediction.missed;
  run.variance_missed  = targets.variance ? prediction.missed : -1;
  run.pairs_per_second = (PetscLogDouble)model.n * (PetscLogDouble)targets.n / run.predict_seconds;
  PetscCall(GramRunEnd(comm, backend, &run));
  PetscCall(GramRunWrite(file, comm, &run));
  PetscCall(GramH5Close(&file));
  PetscCall(GramSay(comm, "model", "%" PetscInt_FMT " points, %s kernel", model.n, model.kernel.type));
  PetscCall(GramPredictSay(&targets, &prediction));
  PetscCall(GramSay(comm, "time", "%.2f s: read %.2f, predict %.2f", run.total_seconds, run.read_seconds,
                    run.predict_seconds));
  PetscCall(GramSay(comm, "output", "%s", path));
  *outcome = prediction.missed ? GRAM_UNCONVERGED : GRAM_DONE;

  PetscCall(GramSolverDestroy(&solver));
  PetscCall(MatDestroy(&A_true));
  PetscCall(MatDestroy(&A));
  PetscCall(PetscFree(x));
  PetscCall(GramRunClear(&run));
  PetscCall(MatDestroy(&C));
  PetscCall(GramPointsDestroy(&X));
  PetscCall(GramBackendDestroy(&exact));
  PetscCall(GramBackendDestroy(&backend));
  PetscCall(GramTargetsClose(&targets));
  PetscCall(GramModelClear(&model));
  PetscFunctionReturn(PETSC_SUCCESS);
}
