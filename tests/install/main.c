static const char help[] =
    "Another PETSc application: conjugate gradients on a shell Mat of the installed library.\n";

#include <petscksp.h>

#include <gram_mat.h>

int main(int argc, char **argv)
{
  PetscReal          x[] = {0, 0.3, 0.5, 0.9, 1.0};
  GramPoints         X;
  GramKernel         kernel;
  GramBackend        backend;
  Mat                A;
  Vec                b, a;
  KSP                ksp;
  KSPConvergedReason reason;
  PetscMPIInt        rank;

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  PetscCallMPI(MPI_Comm_rank(PETSC_COMM_WORLD, &rank));
  PetscCall(GramKernelSetFromOptions(PETSC_COMM_WORLD, 1, &kernel));
  PetscCall(GramPointsCreate(PETSC_COMM_WORLD, 1, rank ? 0 : 5, x, NULL, 1, &X));
  PetscCall(GramBackendCreateFromOptions(PETSC_COMM_WORLD, &backend));
  PetscCall(GramMatCreate(X, &kernel, backend, &A));
  PetscCall(MatCreateVecs(A, &a, &b));
  PetscCall(VecSet(b, 1));
  PetscCall(KSPCreate(PETSC_COMM_WORLD, &ksp));
  PetscCall(KSPSetType(ksp, KSPCG));
  PetscCall(KSPSetOperators(ksp, A, A));
  PetscCall(KSPSetFromOptions(ksp));
  PetscCall(KSPSolve(ksp, b, a));
  PetscCall(KSPGetConvergedReason(ksp, &reason));
  PetscCall(KSPDestroy(&ksp));
  PetscCall(VecDestroy(&a));
  PetscCall(VecDestroy(&b));
  PetscCall(MatDestroy(&A));
  PetscCall(GramBackendDestroy(&backend));
  PetscCall(GramPointsDestroy(&X));
  PetscCall(PetscFinalize());
  return reason < 0;
}
