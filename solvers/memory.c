#include <stdio.h>
#include <unistd.h>

#include "solve.h"

/* Bytes this node can still give: the kernel's own estimate, or all of the memory where there is none. */
static PetscLogDouble BytesAvailable(void)
{
  PetscLogDouble bytes = (PetscLogDouble)sysconf(_SC_PHYS_PAGES) * (PetscLogDouble)sysconf(_SC_PAGESIZE);
  char           line[128];
  FILE          *file = fopen("/proc/meminfo", "r");

  while (file && fgets(line, sizeof line, file)) {
    double kib;

    if (sscanf(line, "MemAvailable: %lf kB", &kib) == 1) bytes = 1024 * kib;
  }
  if (file) (void)fclose(file);
  return bytes;
}

PetscErrorCode GramMemoryFits(MPI_Comm comm, PetscLogDouble bytes, PetscBool *fits, PetscLogDouble *need,
                              PetscLogDouble *have)
{
  MPI_Comm       node;
  PetscLogDouble mine[2], worst[2]; /* fraction of a node's memory taken; -(bytes it has) */

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node));
  PetscCallMPI(MPI_Allreduce(&bytes, need, 1, MPI_DOUBLE, MPI_SUM, node));
  PetscCallMPI(MPI_Comm_free(&node));
  *have   = BytesAvailable();
  mine[0] = *need / *have;
  mine[1] = -*have;
  PetscCallMPI(MPI_Allreduce(mine, worst, 2, MPI_DOUBLE, MPI_MAX, comm));
  *have = -worst[1];
  *need = worst[0] * *have;
  *fits = (PetscBool)(worst[0] <= 1);
  PetscFunctionReturn(PETSC_SUCCESS);
}
