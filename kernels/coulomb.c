#include <math.h>

#include "backend_impl.h"

PetscErrorCode GramCoulomb(GramBackend backend, PetscInt dim, PetscInt m, const PetscReal *x, PetscInt n,
                           const PetscReal *z, const GramCloud *cloud, PetscReal *out)
{
  PetscFunctionBegin;
  PetscAssert(2 <= dim && dim <= GRAM_MAX_DIM, PETSC_COMM_SELF, PETSC_ERR_ARG_OUTOFRANGE,
              "forces in %" PetscInt_FMT " dimensions", dim);
  if (m) PetscCall(backend->ops.coulomb(backend, dim, m, x, n, z, cloud, out));
  if (cloud) {
    const PetscReal density = (PetscReal)dim * cloud->softening2 / GramSphereArea(dim);

    for (PetscInt i = 0; i < m; i++)
      out[GramAt(i, dim + GRAM_COULOMB_EXTRA, dim + GRAM_COULOMB_NEAREST)] *= density;
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscReal GramSphereArea(PetscInt dim)
{
  return 2 * PetscPowReal(PETSC_PI, 0.5 * (PetscReal)dim) / tgamma(0.5 * (double)dim);
}
