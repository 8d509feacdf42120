/* gramarye predict: evaluate a model that solve has written. */
#include "result.h"
#include "solve.h"
#include "verbs.h"

PetscErrorCode GramVerbPredict(MPI_Comm comm, GramOutcome *outcome)
{
  GramModel    model;    /* kernel, points and coefficients, in input order */
  GramDataset  targets;  /* where */
  GramPoints   X;        /* [N, dim] points along the curve, rows spread over the ranks */
  Mat          C;        /* [N, q] coefficients, laid out as X */
  GramBackend  backend;  /* ref, cpu or cuda */
  GramSchedule schedule; /* how products are spread over the ranks */
  GramRun      run;
  GramH5       file;
  PetscReal   *x, *mean, *gradient, rmse, mae;
  char         path[PETSC_MAX_PATH_LEN];

  PetscFunctionBegin;
  PetscCall(GramRunBegin(&run, "predict"));

  /* the model: -model_file; where: -target_* */
  PetscCall(GramOutputFromOptions(comm, path, sizeof path));
  PetscCall(GramScheduleFromOptions(comm, &schedule));
  PetscCall(GramModelRead(comm, &model));
  PetscCall(GramTargetsRead(comm, &model.scaling, model.dim_file, model.n_local, model.x_file, &targets));
  GramCheckInput(targets.n, comm, "target.file: no file given, and no target.grid");
  PetscCall(GramBackendCreateFromOptions(comm, &backend));
  PetscCall(GramPredictEstimate(comm, backend, model.n, targets.n, model.scaling.dim, model.q));
  PetscCall(GramH5CheckSpace(comm, path, "output.file", GramResultBytes(NULL, &targets, &run)));
  PetscCall(GramRunLap(&run.read_seconds));

  /* the prediction */
  PetscCall(PetscMalloc1((size_t)model.n_local * (size_t)model.scaling.dim, &x));
  PetscCall(GramScalingApply(&model.scaling, model.n_local, model.dim_file, model.x_file, x));
  PetscCall(GramPointsCreate(comm, model.scaling.dim, model.n_local, x, model.kernel.length_scale,
                             schedule.block, &X));
  PetscCall(GramPanelFromInput(X, GramKernelNumbers(&model.kernel), model.q, model.coefficients, &C));
  PetscCall(GramPredictAt(X, &model.kernel, backend, C, model.tail, &targets, &mean, &gradient));
  PetscCall(GramRunLap(&run.predict_seconds));

  /* the result: -output_* */
  run.reason           = "evaluated";
  run.pairs_per_second = (PetscLogDouble)model.n * (PetscLogDouble)targets.n / run.predict_seconds;
  PetscCall(GramRunEnd(comm, backend, &run));
  PetscCall(GramH5Create(comm, path, "output.file", GramResultBytes(NULL, &targets, &run), &file));
  PetscCall(GramPredictionWrite(file, &targets, mean, gradient, &rmse, &mae));
  PetscCall(GramRunWrite(file, comm, &run));
  PetscCall(GramH5Close(&file));
  PetscCall(GramSay(comm, "model", "%" PetscInt_FMT " points, %s kernel", model.n, model.kernel.type));
  if (PetscIsNanReal(rmse)) PetscCall(GramSay(comm, "prediction", "%" PetscInt_FMT " targets", targets.n));
  else
    PetscCall(GramSay(comm, "prediction", "%" PetscInt_FMT " targets, rmse %.6g, mae %.6g", targets.n,
                      (double)rmse, (double)mae));
  PetscCall(GramSay(comm, "time", "%.2f s: read %.2f, predict %.2f", run.total_seconds, run.read_seconds,
                    run.predict_seconds));
  PetscCall(GramSay(comm, "output", "%s", path));
  *outcome = GRAM_DONE;

  PetscCall(PetscFree(mean));
  PetscCall(PetscFree(gradient));
  PetscCall(PetscFree(x));
  PetscCall(GramRunClear(&run));
  PetscCall(MatDestroy(&C));
  PetscCall(GramPointsDestroy(&X));
  PetscCall(GramBackendDestroy(&backend));
  PetscCall(GramDatasetClear(&targets));
  PetscCall(GramModelClear(&model));
  PetscFunctionReturn(PETSC_SUCCESS);
}
