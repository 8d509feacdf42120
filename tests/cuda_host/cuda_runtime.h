/*
  CUDA on the host: what the .cu files use of the CUDA runtime and language, as plain C++17, so that they run and are
  tested where there is no GPU. It stands in for the toolkit's header of the same name.

  The threads of a block are fibers of one OS thread; blocks run one after the other. What the program may not rely
  on is drawn anew from a seed: the order of blocks, and after each barrier that of warps and of lanes. A race shows
  as bits that depend on the seed. Streams can be lazy: work runs when something waits for it, and not before.

      GRAM_CUDA_HOST_SEED     1       of all orders
      GRAM_CUDA_HOST_LAZY     0       1: work in a stream waits until it is synchronised with
      GRAM_CUDA_HOST_DEVICES  1       how many there are; 0: as on a machine without a driver
      GRAM_CUDA_HOST_BYTES    2^30    memory of each
      GRAM_CUDA_HOST_FIRST    0       the first of them has this name: ranks with others have other devices
      GRAM_CUDA_HOST_BROKEN   unset   set: they are there, and cannot be used
      GRAM_CUDA_HOST_AWARE    unset   set: as where MPI takes pointers to device memory

  They are read as they are needed, so that a test may change them on its way.

  Device memory starts as 0xff bytes (NaN); with AddressSanitizer the host cannot touch it, unless MPI can. Shared memory is static,
  with what the last block left in it. A barrier that not all threads of a block reach, or a shuffle that not all 32
  lanes of a warp reach, ends the program with a message. Masks other than all lanes, dynamic shared memory, atomics
  and textures are not there.
*/
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <functional>
#include <tuple>
#include <type_traits>

/* ---- the language */

#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__      static
#define __noinline__    /* nothing: the headers of g++ write __attribute__((__noinline__)) */
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};

inline int2    make_int2(int x, int y) { return {x, y}; }
inline int4    make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2   make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4   make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2  make_float2(float x, float y) { return {x, y}; }
inline float4  make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }

/* of the fiber that runs */
extern uint3         threadIdx, blockIdx;
extern dim3          blockDim, gridDim;
static constexpr int warpSize = 32;

/* ---- launches: kernel is a function, in parentheses where its name has commas; grid and block are numbers or dim3 */

#define GRAM_LAUNCH(kernel, grid, block, stream, ...) \
  GramHostLaunch(#kernel, grid, block, stream, kernel, ##__VA_ARGS__)

typedef struct GramHostStream *cudaStream_t;

/* runs body on every thread of the grid, in its turn in the stream */
void GramHostEnqueue(const char *name, dim3 grid, dim3 block, cudaStream_t stream,
                     std::function<void()> body);

template <class... P, class... A>
void GramHostLaunch(const char *name, dim3 grid, dim3 block, cudaStream_t stream, void (*kernel)(P...),
                    const A &...args)
{
  std::tuple<P...> arguments(args...); /* by value, now: what a launch sees of its arguments */

  GramHostEnqueue(name, grid, block, stream, [kernel, arguments] { std::apply(kernel, arguments); });
}

/* ---- threads that meet */

/*
  GramHostMeet - All 32 lanes of a warp call it; each leaves a value and finds those of all.

  what names the caller in messages. last, where not NULL, is called once with the values, by the lane that arrives
  last, before any lane goes on. The values stay until the caller's next meeting.
*/
const uint64_t *GramHostMeet(const char *what, uint64_t value, void (*last)(const uint64_t values[32]));
unsigned        GramHostLane(void);
void            GramHostCheckMask(const char *what, unsigned mask);

void __syncthreads(void);
void __syncwarp(unsigned mask = 0xffffffffu);

template <class To, class From> inline To GramHostBits(From from)
{
  To to{};

  memcpy(&to, &from, sizeof to < sizeof from ? sizeof to : sizeof from);
  return to;
}

template <class T> inline T GramHostShuffle(const char *what, unsigned mask, T value, unsigned source)
{
  static_assert(std::is_arithmetic<T>::value && sizeof(T) <= 8, "shuffles move numbers");
  GramHostCheckMask(what, mask);
  return GramHostBits<T>(GramHostMeet(what, GramHostBits<uint64_t>(value), nullptr)[source]);
}

template <class T> inline T __shfl_sync(unsigned mask, T value, int lane)
{
  return GramHostShuffle("__shfl_sync", mask, value, (unsigned)lane & 31);
}

template <class T> inline T __shfl_xor_sync(unsigned mask, T value, int lanes)
{
  return GramHostShuffle("__shfl_xor_sync", mask, value, (GramHostLane() ^ (unsigned)lanes) & 31);
}

template <class T> inline T __shfl_down_sync(unsigned mask, T value, unsigned delta)
{
  const unsigned lane = GramHostLane();

  return GramHostShuffle("__shfl_down_sync", mask, value, lane + delta < 32 ? lane + delta : lane);
}

template <class T> inline T __shfl_up_sync(unsigned mask, T value, unsigned delta)
{
  const unsigned lane = GramHostLane();

  return GramHostShuffle("__shfl_up_sync", mask, value, lane >= delta ? lane - delta : lane);
}

/* ---- arithmetic */

inline float     __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float     __fadd_rn(float a, float b) { return a + b; }
inline float     __fsub_rn(float a, float b) { return a - b; }
inline float     __fmul_rn(float a, float b) { return a * b; }
inline double    __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline double    __dadd_rn(double a, double b) { return a + b; }
inline double    __dsub_rn(double a, double b) { return a - b; }
inline double    __dmul_rn(double a, double b) { return a * b; }
inline float     __int_as_float(int a) { return GramHostBits<float>(a); }
inline int       __float_as_int(float a) { return GramHostBits<int>(a); }
inline long long __double_as_longlong(double a) { return GramHostBits<long long>(a); }
/* threads run one after the other */
inline unsigned long long atomicMax(unsigned long long *p, unsigned long long a)
{
  const unsigned long long before = *p;

  if (a > before) *p = a;
  return before;
}
inline float    __uint_as_float(unsigned a) { return GramHostBits<float>(a); }
inline unsigned __float_as_uint(float a) { return GramHostBits<unsigned>(a); }
inline int      __double2loint(double a) { return (int)(uint32_t)GramHostBits<uint64_t>(a); }
inline int      __double2hiint(double a) { return (int)(uint32_t)(GramHostBits<uint64_t>(a) >> 32); }
inline double   __hiloint2double(int hi, int lo)
{
  return GramHostBits<double>((uint64_t)(uint32_t)hi << 32 | (uint32_t)lo);
}

template <class T> inline T __ldg(const T *p) { return *p; }

/* as CUDA's: of two types, in the common one; a NaN loses against a number */
template <class A, class B> inline std::common_type_t<A, B> min(A a, B b)
{
  const std::common_type_t<A, B> x = a, y = b;

  return y < x || x != x ? y : x;
}

template <class A, class B> inline std::common_type_t<A, B> max(A a, B b)
{
  const std::common_type_t<A, B> x = a, y = b;

  return x < y || x != x ? y : x;
}

/* ---- instructions of PTX that approximate: exact values off by as much as the real ones may be, always the same way */

/* in [-1, 1), a function of the bits */
inline double GramHostNoise(uint64_t bits)
{
  bits = (bits ^ bits >> 32) * 0x9E3779B97F4A7C15u;
  return (double)(int32_t)(bits >> 32) * 0x1p-31;
}

inline float GramHostFlush(float a) { return fabsf(a) < 0x1p-126f ? copysignf(0, a) : a; }

/* ex2.approx.ftz.f32: 2^y, relative error up to 2^-22.5 with the rounding of the result, 1 at 0 */
inline float GramEx2(float y)
{
  const double noise = 1.08e-7 * GramHostNoise(__float_as_uint(y));

  y = GramHostFlush(y);
  return y == 0 ? 1 : GramHostFlush((float)(exp2((double)y) * (1 + noise)));
}

/* sqrt.approx.ftz.f32 */
inline float GramSqrtApprox(float s)
{
  return (float)(sqrt((double)GramHostFlush(s)) * (1 + 1e-7 * GramHostNoise(__float_as_uint(s))));
}

/* rsqrt.approx.ftz.f64: 1 / sqrt(s) in 20 bits after the point, relative error up to 2^-20 */
inline double GramRsqrtApprox(double s)
{
  const double r = fabs(s) < 0x1p-1022 ? copysign(INFINITY, s) : 1 / sqrt(s);

  if (!isfinite(r)) return r;
  return GramHostBits<double>(
      (GramHostBits<uint64_t>(r * (1 + 0x1p-21 * GramHostNoise(GramHostBits<uint64_t>(s)))) + 0x80000000u) &
      ~(uint64_t)0xffffffffu);
}

/*
  mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32: D = A B + C by a warp, A 16 x 16 and B 16 x 8 of half precision.

  With g = lane / 4, t = lane % 4, the lower half first in a word:

      a     (g, 2t..)  (g + 8, 2t..)  (g, 2t + 8..)  (g + 8, 2t + 8..)      two neighbours of a row each
      b     (2t.., g)  (2t + 8.., g)                                        two neighbours of a column each
      c, d  (g, 2t)  (g, 2t + 1)  (g + 8, 2t)  (g + 8, 2t + 1)

  Products are exact. They and the entry of C are cut to 25 bits, counted from the largest of them, and summed; the
  sum is rounded to nearest.
*/
void GramMma16816(float d[4], const unsigned a[4], unsigned b0, unsigned b1, const float c[4]);

/* ---- the runtime, as far as it is used; values and texts of errors as in CUDA */

#define GRAM_HOST_ERRORS(X)                                                               \
  X(cudaSuccess, 0, "no error")                                                           \
  X(cudaErrorInvalidValue, 1, "invalid argument")                                         \
  X(cudaErrorMemoryAllocation, 2, "out of memory")                                        \
  X(cudaErrorInvalidConfiguration, 9, "invalid configuration argument")                   \
  X(cudaErrorInvalidMemcpyDirection, 21, "invalid copy direction for memcpy")             \
  X(cudaErrorInsufficientDriver, 35, "CUDA driver version is insufficient")               \
  X(cudaErrorDevicesUnavailable, 46, "CUDA-capable device(s) is/are busy or unavailable") \
  X(cudaErrorNoDevice, 100, "no CUDA-capable device is detected")                         \
  X(cudaErrorInvalidDevice, 101, "invalid device ordinal")                                \
  X(cudaErrorInvalidResourceHandle, 400, "invalid resource handle")                       \
  X(cudaErrorNotReady, 600, "device not ready")

#define GRAM_HOST_ERROR(name, value, text) name = value,
typedef enum cudaError { GRAM_HOST_ERRORS(GRAM_HOST_ERROR) } cudaError_t;
#undef GRAM_HOST_ERROR

const char *cudaGetErrorName(cudaError_t error);
const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError(void);
cudaError_t cudaPeekAtLastError(void);

struct cudaDeviceProp {
  struct {
    char bytes[16];
  } uuid;
  char   name[256];
  int    major, minor, multiProcessorCount, warpSize, maxThreadsPerBlock, maxThreadsPerMultiProcessor;
  int    clockRate, memoryClockRate, memoryBusWidth, l2CacheSize, regsPerBlock, regsPerMultiprocessor;
  size_t totalGlobalMem, sharedMemPerBlock, sharedMemPerMultiprocessor, sharedMemPerBlockOptin;
};

enum cudaDeviceAttr {
  cudaDevAttrMaxThreadsPerBlock               = 1,
  cudaDevAttrMaxSharedMemoryPerBlock          = 8,
  cudaDevAttrWarpSize                         = 10,
  cudaDevAttrClockRate                        = 13, /* kHz */
  cudaDevAttrMultiProcessorCount              = 16,
  cudaDevAttrComputeCapabilityMajor           = 75,
  cudaDevAttrComputeCapabilityMinor           = 76,
  cudaDevAttrMaxSharedMemoryPerBlockOptin     = 97,
  cudaDevAttrSingleToDoublePrecisionPerfRatio = 87
};

cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *prop, int device);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDeviceSynchronize(void);

enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};
enum cudaMemoryType {
  cudaMemoryTypeUnregistered,
  cudaMemoryTypeHost,
  cudaMemoryTypeDevice,
  cudaMemoryTypeManaged
};
struct cudaPointerAttributes {
  cudaMemoryType type;
  int            device;
  void          *devicePointer, *hostPointer;
};

#define cudaHostAllocDefault       0u
#define cudaHostAllocPortable      1u
#define cudaHostAllocMapped        2u
#define cudaHostAllocWriteCombined 4u

cudaError_t cudaMemGetInfo(size_t *available, size_t *total);
cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr);
cudaError_t cudaMemset(void *to, int value, size_t bytes);
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream = nullptr);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *p);

template <class T> inline cudaError_t cudaMalloc(T **p, size_t bytes)
{
  void             *raw   = nullptr;
  const cudaError_t error = cudaMalloc(&raw, bytes);

  *p = (T *)raw;
  return error;
}

template <class T> inline cudaError_t cudaHostAlloc(T **p, size_t bytes, unsigned flags)
{
  void             *raw   = nullptr;
  const cudaError_t error = cudaHostAlloc(&raw, bytes, flags);

  *p = (T *)raw;
  return error;
}

template <class T> inline cudaError_t cudaMallocHost(T **p, size_t bytes, unsigned flags = 0)
{
  return cudaHostAlloc(p, bytes, flags);
}

typedef struct GramHostEvent *cudaEvent_t;

#define cudaStreamDefault      0u
#define cudaStreamNonBlocking  1u
#define cudaEventDefault       0u
#define cudaEventBlockingSync  1u
#define cudaEventDisableTiming 2u

cudaError_t cudaStreamCreate(cudaStream_t *stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaEventCreate(cudaEvent_t *event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end);

enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize    = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9
};

template <class Kernel> inline cudaError_t cudaFuncSetAttribute(Kernel *, cudaFuncAttribute, int)
{
  return cudaSuccess;
}
