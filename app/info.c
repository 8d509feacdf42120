/* gramarye info: versions, backends built, devices found, preconditioners, kernels. */
#include <hdf5.h>
#include <string.h>
#include <petscksp.h>

#include "backend.h"
#include "device.h"
#include "result.h"
#include "verbs.h"
#include "version.h"

static PetscErrorCode SayLibraries(MPI_Comm comm)
{
  char     petsc[128], mpi[MPI_MAX_LIBRARY_VERSION_STRING];
  int      length;
  unsigned h5[3];

  PetscFunctionBegin;
  PetscCall(PetscGetVersion(petsc, sizeof petsc));
  PetscCallMPI(MPI_Get_library_version(mpi, &length));
  mpi[strcspn(mpi, ",\n")] = '\0';
  (void)H5get_libversion(h5, h5 + 1, h5 + 2);
  PetscCall(GramSay(comm, "gramarye", "%s (%s)", GRAM_VERSION, GRAM_GIT));
  PetscCall(GramSay(comm, "petsc", "%s, %d-bit indices, ScaLAPACK %s", petsc, (int)(8 * sizeof(PetscInt)),
                    PetscDefined(HAVE_SCALAPACK) ? "yes" : "no"));
  PetscCall(GramSay(comm, "mpi", "%s", mpi));
  PetscCall(GramSay(comm, "hdf5", "%u.%u.%u", h5[0], h5[1], h5[2]));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode SayBackends(MPI_Comm comm)
{
  char devices[1024];

  PetscFunctionBegin;
  for (int i = 0; GramBackendName(i); i++) {
    char      detail[256];
    PetscBool found;

    PetscCall(GramBackendProbe(comm, i, &found, detail, sizeof detail));
    PetscCall(GramSay(comm, "backend", "%s (%s%s)", GramBackendName(i), found ? "" : "not here: ", detail));
  }
  GramDeviceList(devices, sizeof devices);
  PetscCall(GramSay(comm, "devices", "%s", devices));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode SayRegistered(MPI_Comm comm)
{
#define INFO_KERNEL(UPPER, Camel, name, ...) name " "
  PetscFunctionBegin;
  PetscCall(
      GramSay(comm, "kernels", "%s", GRAM_RADIAL_LIST(INFO_KERNEL) "(matern with nu 0.5 is exponential)"));
  PetscCall(
      GramSay(comm, "solvers", "direct; iterative: any KSP of PETSc (cg, fcg, pipecg, minres, gmres, ...)"));
  PetscCall(GramSay(comm, "pc", "lrv (low rank and local residual), none, jacobi"));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramVerbInfo(MPI_Comm comm, GramOutcome *outcome)
{
  PetscFunctionBegin;
  PetscCall(SayLibraries(comm));
  PetscCall(SayBackends(comm));
  PetscCall(SayRegistered(comm));
  *outcome = GRAM_DONE;
  PetscFunctionReturn(PETSC_SUCCESS);
}
