/*
  Device functions of Coulomb forces. A thread has a row in registers and walks over a piece of the charges, which the block
  stages in shared memory in 2 and 3 coordinates; sums of a stage are of the kind of the pairs, then double. A second function
  adds up the pieces, always in their order: no atomics, the same bits in every run.
*/
#include "coulomb_cuda.h"

#if !defined(GRAM_LAUNCH)
  #define GRAM_LAUNCH(kernel, grid, block, stream, ...) kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)
#endif

#define THREADS 128
#define MOST    128 /* coordinates, as GRAM_MAX_DIM */

namespace
{

#if defined(GRAM_CUDA_HOST) /* tests run device code on the host */
__device__ __forceinline__ float  InverseRoot(float s) { return 1 / sqrtf(s); }
__device__ __forceinline__ double InverseRoot(double s) { return 1 / sqrt(s); }
#else
__device__ __forceinline__ float  InverseRoot(float s) { return rsqrtf(s); }
__device__ __forceinline__ double InverseRoot(double s) { return rsqrt(s); }
#endif

__device__ __forceinline__ float  Log(float s) { return logf(s); }
__device__ __forceinline__ double Log(double s) { return log(s); }

/* s^(-d/2), and s^((2 - d)/2) / (d - 2) for d > 2; inverse = 1 / s */
template <typename T> __device__ __forceinline__ void Powers(int dim, T s, T *force, T *energy, T *inverse)
{
  const T root = InverseRoot(s), q = root * root;
  T       power = dim % 2 ? root : T(1);

  for (int k = dim % 2 ? 3 : 2; k < dim; k += 2) power *= q;
  *inverse = q;
  *force   = power * q;
  if (dim > 2) *energy = power * T(1. / (dim - 2));
}

/* few: 2 or 3 coordinates, or 0 for any number, which are not staged */
template <typename T, int few, bool cloud> __global__ void Pairs(GramCoulombWork k)
{
  __shared__ T  staged[few ? few : 1][THREADS], charges[THREADS];
  constexpr int held = few ? few : MOST;
  const int     dim = few ? few : k.dim, i = blockIdx.x * THREADS + threadIdx.x, first = blockIdx.y * k.piece,
            last = min(k.n, first + k.piece);
  const int lane = (int)threadIdx.x;
  double    force[held], energy = 0, third = cloud ? 0 : 1e300;
  T         x[held];

  for (int c = 0; c < dim; c++) {
    force[c] = 0;
    x[c]     = i < k.m ? T(k.x[(size_t)c * k.m + i] - k.centre[c]) : T(0);
  }
  for (int j0 = first; j0 < last; j0 += THREADS) {
    const int count = min(THREADS, last - j0);
    T         sums[held], energies = 0, thirds = cloud ? T(0) : T(1e37), product = 1;

    if (few) {
      __syncthreads();
      for (int c = 0; c < dim; c++)
        staged[c][threadIdx.x] =
            lane < count ? T(k.z[(size_t)c * k.n + j0 + threadIdx.x] - k.centre[c]) : T(0);
      if (cloud) charges[threadIdx.x] = lane < count ? T(k.charge[j0 + threadIdx.x]) : T(0);
      __syncthreads();
    }
    for (int c = 0; c < dim; c++) sums[c] = 0;
    for (int j = 0; j < count; j++) {
      T s = T(k.softening2), weight, g = 0, inverse;

      for (int c = 0; c < dim; c++) {
        const T d = x[c] - (few ? staged[few ? c : 0][j] : T(k.z[(size_t)c * k.n + j0 + j] - k.centre[c]));

        s += d * d;
      }
      Powers(dim, s, &weight, &g, &inverse);
      if (cloud) {
        const T charge = few ? charges[j] : T(k.charge[j0 + j]);

        weight *= charge;
        thirds += weight * inverse;
        energies += charge * (dim == 2 ? T(-0.5) * Log(s) : g);
      } else {
        weight = s > 0 ? weight : T(0);
        thirds = s > 0 && s < thirds ? s : thirds;
        if (dim == 2) {
          product *= s > 0 ? s : T(1);
          if (j % 4 == 3 || j == count - 1) { /* products of more could leave the range of float */
            energies += T(-0.5) * Log(product);
            product = 1;
          }
        } else energies += s > 0 ? g : T(0);
      }
      for (int c = 0; c < dim; c++)
        sums[c] +=
            weight * (x[c] - (few ? staged[few ? c : 0][j] : T(k.z[(size_t)c * k.n + j0 + j] - k.centre[c])));
    }
    for (int c = 0; c < dim; c++) force[c] += sums[c];
    energy += energies;
    if (cloud) third += thirds;
    else if (thirds < third) third = thirds;
  }
  if (i < k.m) {
    double *out = k.partial + ((size_t)blockIdx.y * k.m + i) * (dim + 2);

    for (int c = 0; c < dim; c++) out[c] = force[c];
    out[dim]     = energy;
    out[dim + 1] = third;
  }
}

/* out = the sum of the pieces, of the nearest distance the least */
__global__ void Fold(GramCoulombWork k)
{
  const int i = blockIdx.x * THREADS + threadIdx.x, width = k.dim + 2;

  if (i >= k.m) return;
  for (int c = 0; c < width; c++) {
    double sum = k.partial[(size_t)i * width + c];

    for (int p = 1; p < k.pieces; p++) {
      const double other = k.partial[((size_t)p * k.m + i) * width + c];

      if (c == width - 1 && !k.charge) sum = fmin(sum, other);
      else sum += other;
    }
    k.out[(size_t)i * width + c] = sum;
  }
}

template <typename T, bool cloud> void LaunchOf(const GramCoulombWork &k, dim3 grid, cudaStream_t stream)
{
  switch (k.dim) {
  case 2: GRAM_LAUNCH((Pairs<T, 2, cloud>), grid, THREADS, stream, k); break;
  case 3: GRAM_LAUNCH((Pairs<T, 3, cloud>), grid, THREADS, stream, k); break;
  default: GRAM_LAUNCH((Pairs<T, 0, cloud>), grid, THREADS, stream, k);
  }
}
} // namespace

void GramCoulombLaunch(const GramCoulombWork *work, cudaStream_t stream)
{
  const int  blocks = (work->m + THREADS - 1) / THREADS;
  const dim3 grid(blocks, work->pieces);

  if (work->narrow && work->charge) LaunchOf<float, true>(*work, grid, stream);
  else if (work->narrow) LaunchOf<float, false>(*work, grid, stream);
  else if (work->charge) LaunchOf<double, true>(*work, grid, stream);
  else LaunchOf<double, false>(*work, grid, stream);
  GRAM_LAUNCH(Fold, blocks, THREADS, stream, *work);
}
