/* The emulation of CUDA against what it did not write: plain loops, the processor's own half precision, and programs
   that are wrong in ways it must notice. */
#include "../check.h"

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <vector>

static const unsigned ALL = 0xffffffffu;

#define CUDA(call) CHECK((call) == cudaSuccess, "%s: %s", #call, cudaGetErrorString(cudaGetLastError()))

template <class T> static T *Upload(const std::vector<T> &host)
{
  T *device = nullptr;

  CUDA(cudaMalloc(&device, host.size() * sizeof(T)));
  CUDA(cudaMemcpy(device, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice));
  return device;
}

template <class T> static std::vector<T> Download(const T *device, size_t n)
{
  std::vector<T> host(n);

  CUDA(cudaMemcpy(host.data(), device, n * sizeof(T), cudaMemcpyDeviceToHost));
  return host;
}

/* ---- threads that meet */

/* sums of 256 numbers per block: a tree in shared memory, and warps that fold in three ways */
template <class T> __global__ void __launch_bounds__(256) Reduce(const T *x, T *sums)
{
  __shared__ T   tree[256];
  const unsigned t = threadIdx.x, lane = t % 32;
  const T        mine = x[blockIdx.x * 256 + t];
  T              down = mine, across = mine;

  tree[t] = mine;
  for (unsigned half = 128; half > 0; half /= 2) {
    __syncthreads();
    if (t < half) tree[t] += tree[t + half];
  }
  if (t == 0) sums[blockIdx.x * 25] = tree[0];
  for (unsigned half = 16; half > 0; half /= 2) {
    down += __shfl_down_sync(ALL, down, half);
    across += __shfl_xor_sync(ALL, across, (int)half);
  }
  across = __shfl_sync(ALL, across, (int)(lane + 5)); /* lanes count modulo 32 */
  if (lane == 0) sums[blockIdx.x * 25 + 1 + t / 32] = down;
  if (lane == 7) sums[blockIdx.x * 25 + 9 + t / 32] = across;
  tree[t] = mine;
  __syncwarp();
  if (lane == 9) {
    T sum = 0;

    for (unsigned l = 0; l < 32; l++) sum += tree[t - lane + l];
    sums[blockIdx.x * 25 + 17 + t / 32] = sum;
  }
}

template <class T> static void TestReduce()
{
  const unsigned n_blocks = 5;
  std::vector<T> x(n_blocks * 256);

  for (size_t i = 0; i < x.size(); i++) x[i] = (T)(1000 * CheckUniform(1, i)); /* whole numbers: exact */
  for (auto &xi : x) xi = (T)(int)xi;
  T *x_device = Upload(x), *sums_device = nullptr;
  CUDA(cudaMalloc(&sums_device, n_blocks * 25 * sizeof(T)));
  GRAM_LAUNCH(Reduce<T>, n_blocks, 256, 0, x_device, sums_device);
  CUDA(cudaGetLastError());
  const std::vector<T> sums = Download(sums_device, n_blocks * 25);
  for (unsigned b = 0; b < n_blocks; b++) {
    T total = 0;

    for (unsigned w = 0; w < 8; w++) {
      T sum = 0;

      for (unsigned l = 0; l < 32; l++) sum += x[b * 256 + w * 32 + l];
      total += sum;
      for (unsigned k = 1; k < 25; k += 8)
        CHECK(sums[b * 25 + k + w] == sum, "warp %u of block %u: %g, not %g", w, b,
              (double)sums[b * 25 + k + w], (double)sum);
    }
    CHECK(sums[b * 25] == total, "block %u: %g, not %g", b, (double)sums[b * 25], (double)total);
  }
  CUDA(cudaFree(x_device));
  CUDA(cudaFree(sums_device));
}

__global__ void Where(unsigned *out)
{
  const unsigned block  = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);

  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + thread;
}

static void TestShapes()
{
  const unsigned threads = 5 * 3 * 7, blocks = 2 * 3 * 4;
  unsigned      *out = nullptr;

  CUDA(cudaMalloc(&out, threads * blocks * sizeof *out));
  GRAM_LAUNCH(Where, dim3(2, 3, 4), dim3(5, 3, 7), 0, out);
  const std::vector<unsigned> host = Download(out, threads * blocks);
  for (unsigned i = 0; i < threads * blocks; i++)
    CHECK(host[i] == i / threads * 1000 + i % threads, "thread %u: %u", i, host[i]);
  CUDA(cudaFree(out));
  GRAM_LAUNCH(Where, 1, 1025, 0, out);
  CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration, "a block of 1025 threads");
  GRAM_LAUNCH(Where, 0, 32, 0, out);
  CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration, "a grid of no blocks");
  CHECK(cudaGetLastError() == cudaSuccess, "an error is reported once");
}

/* ---- the tensor core */

__global__ void Mma(const __half *a, const __half *b, const float *c, float *d)
{
  const unsigned lane = threadIdx.x, g = lane / 4, t = 2 * (lane % 4);
  unsigned       af[4], bf[2];
  float          cf[4];
  const auto     pair = [](__half lower, __half upper) {
    return (unsigned)__half_as_ushort(lower) | (unsigned)__half_as_ushort(upper) << 16;
  };

  for (unsigned k = 0; k < 4; k++) {
    const __half *at = a + (g + k % 2 * 8) * 16 + t + k / 2 * 8;

    af[k] = pair(at[0], at[1]);
    cf[k] = c[(g + k / 2 * 8) * 8 + t + k % 2];
  }
  for (unsigned k = 0; k < 2; k++) bf[k] = pair(b[(t + 8 * k) * 8 + g], b[(t + 8 * k + 1) * 8 + g]);
  GramMma16816(cf, af, bf[0], bf[1], cf);
  for (unsigned k = 0; k < 4; k++) d[(g + k / 2 * 8) * 8 + t + k % 2] = cf[k];
}

/* spread: powers of two that the entries range over */
static void TestMma(double spread, uint64_t seed)
{
  std::vector<__half> a(256), b(128);
  std::vector<float>  c(128);

  const auto random = [=](uint64_t which, size_t i) {
    return (CheckUniform(seed + which, 2 * i) - 0.5) *
           exp2(spread * (CheckUniform(seed + which, 2 * i + 1) - 0.5));
  };
  for (size_t i = 0; i < 256; i++) a[i] = __float2half_rn((float)random(10, i));
  for (size_t i = 0; i < 128; i++) b[i] = __float2half_rn((float)random(20, i));
  for (size_t i = 0; i < 128; i++) c[i] = (float)random(30, i);
  __half *a_device = Upload(a), *b_device = Upload(b);
  float  *c_device = Upload(c), *d_device = nullptr;
  CUDA(cudaMalloc(&d_device, 128 * sizeof(float)));
  GRAM_LAUNCH(Mma, 1, 32, 0, a_device, b_device, c_device, d_device);
  const std::vector<float> d = Download(d_device, 128);
  for (size_t i = 0; i < 16; i++) {
    for (size_t j = 0; j < 8; j++) {
      double sum = c[i * 8 + j], most = fabs(sum);

      for (size_t k = 0; k < 16; k++) {
        const double term = (double)__half2float(a[i * 16 + k]) * (double)__half2float(b[k * 8 + j]);

        sum += term;
        most = fmax(most, fabs(term));
      }
      /* 17 terms lose up to 2^-24 of the power of two in the largest, the sum is rounded */
      CHECK(fabs(d[i * 8 + j] - sum) <= 17 * 0x1p-24 * most + 0x1p-24 * fabs(sum), "D[%zu][%zu] = %g, not %g",
            i, j, (double)d[i * 8 + j], sum);
    }
  }
  CUDA(cudaFree(a_device));
  CUDA(cudaFree(b_device));
  CUDA(cudaFree(c_device));
  CUDA(cudaFree(d_device));
}

/* terms are cut where the largest has 25 bits: halves beside 2^24 are lost one by one */
__global__ void Cut(float *d)
{
  const unsigned halves[4] = {0x38003800u, 0x38003800u, 0x38003800u, 0x38003800u}, ones = 0x3c003c00u;
  const float    c[4] = {0x1p24f, 0x1p23f, 1, INFINITY};
  float          sums[4];

  GramMma16816(sums, halves, ones, ones, c);
  for (int k = 0; k < 4; k++) d[threadIdx.x * 4 + (unsigned)k] = sums[k];
}

static void TestCut()
{
  float *d = nullptr;

  CUDA(cudaMalloc(&d, 128 * sizeof(float)));
  GRAM_LAUNCH(Cut, 1, 32, 0, d);
  const std::vector<float> sums = Download(d, 128);
  for (size_t i = 0; i < 128; i += 4)
    CHECK(sums[i] == 0x1p24f && sums[i + 1] == 0x1p23f + 8 && sums[i + 2] == 9 && isinf(sums[i + 3]),
          "lane %zu: %.9g, %.9g, %g, %g", i / 4, (double)sums[i], (double)sums[i + 1], (double)sums[i + 2],
          (double)sums[i + 3]);
  CUDA(cudaFree(d));
}

/* ---- arithmetic */

static void TestHalf()
{
  for (unsigned bits = 0; bits < 0x10000; bits++) {
    const __half h   = __ushort_as_half((unsigned short)bits);
    const float  f   = __half2float(h);
    const bool   nan = (bits & 0x7c00) == 0x7c00 && (bits & 0x3ff);

    CHECK(nan ? f != f : __half_as_ushort(__float2half_rn(f)) == bits, "half %04x becomes %g", bits,
          (double)f);
#if defined(__FLT16_MANT_DIG__)
    _Float16 expected;

    memcpy(&expected, &h, sizeof h);
    CHECK(nan || f == (float)expected, "half %04x: %g, not %g", bits, (double)f, (double)expected);
#endif
  }
#if defined(__FLT16_MANT_DIG__)
  for (uint64_t i = 0; i < 200000; i++) {
    const uint32_t bits = (uint32_t)(0x1p32 * CheckUniform(40, i));
    const float    f =
        i % 2 ? __uint_as_float(bits) : (float)ldexp(CheckUniform(41, i) - 0.5, (int)(i % 50) - 32);
    const _Float16 expected = (_Float16)f;
    const __half   h        = __float2half_rn(f);

    CHECK(f != f || memcmp(&h, &expected, sizeof h) == 0, "%.9g rounds to %04x", (double)f, h.bits);
  }
#endif
  CHECK(__half2float(__float2half_rn(65519.99f)) == 65504 && isinf(__half2float(__float2half_rn(65520))),
        "the largest half");
}

static void TestApproximations()
{
  double most[3] = {0};

  for (uint64_t i = 0; i < 100000; i++) {
    const float  y = (float)(-120 * CheckUniform(50, i)), s = (float)exp(100 * (CheckUniform(51, i) - 0.5));
    const double z = exp(100 * (CheckUniform(52, i) - 0.5)), r = GramRsqrtApprox(z);

    most[0] = fmax(most[0], fabs((double)GramEx2(y) / exp2((double)y) - 1));
    most[1] = fmax(most[1], fabs((double)GramSqrtApprox(s) / sqrt((double)s) - 1));
    most[2] = fmax(most[2], fabs(r * sqrt(z) - 1));
    CHECK(__double2loint(r) == 0, "rsqrt has bits below");
  }
  CHECK(most[0] <= 0x1p-22 && most[0] >= 1e-7, "ex2 is off by %g", most[0]);
  CHECK(most[1] <= 2e-7 && most[1] >= 1e-7, "sqrt is off by %g", most[1]);
  CHECK(most[2] <= 0x1p-20 && most[2] >= 0x1p-21, "rsqrt is off by %g", most[2]);
  CHECK(GramEx2(0) == 1 && GramEx2(-0.0f) == 1 && GramEx2(-130) == 0 && GramEx2(-INFINITY) == 0 &&
            isinf(GramEx2(200)),
        "the ends of ex2");
  CHECK(GramSqrtApprox(0) == 0 && GramSqrtApprox(0x1p-130f) == 0 && isinf(GramSqrtApprox(INFINITY)),
        "the ends of sqrt");
  CHECK(isinf(GramRsqrtApprox(0)) && GramRsqrtApprox(INFINITY) == 0 && isnan(GramRsqrtApprox(-1)),
        "the ends of rsqrt");
  CHECK(__hiloint2double(__double2hiint(M_PI), __double2loint(M_PI)) == M_PI, "halves of a double");
  CHECK(min(3, 2u) == 2 && max(-1LL, 4) == 4 && min(NAN, 1.0f) == 1, "min and max");
}

/* ---- wrong programs */

__global__ void Fill(int *x, int value) { x[blockIdx.x * blockDim.x + threadIdx.x] = value; }

/* warps and lanes add to one number with nothing between them; then blocks to another */
__global__ void Race(float *x, float *sum)
{
  __shared__ float shared;

  if (threadIdx.x == 0) shared = 0;
  __syncthreads();
  shared += x[threadIdx.x];
  __syncthreads();
  if (threadIdx.x == 0) sum[0] = shared, sum[1] += x[blockIdx.x];
}

static void TestRace()
{
  std::vector<float> x(256), first;

  for (size_t i = 0; i < 256; i++) x[i] = (float)CheckUniform(60, i);
  for (int part = 0; part < 2; part++) {
    int differ = 0;

    for (int seed = 1; seed <= 4; seed++) {
      float *x_device = Upload(x), *sum = Upload(std::vector<float>{0, 0});

      setenv("GRAM_CUDA_HOST_SEED", std::to_string(seed).c_str(), 1);
      GRAM_LAUNCH(Race, part ? 200 : 1, 256, 0, x_device, sum);
      const std::vector<float> got = Download(sum, 2);
      if (seed == 1) first = got;
      differ += got[(size_t)part] != first[(size_t)part];
      CUDA(cudaFree(x_device));
      CUDA(cudaFree(sum));
    }
    CHECK(differ > 0, "four seeds do not show a race between %s", part ? "blocks" : "threads");
  }
  unsetenv("GRAM_CUDA_HOST_SEED");
}

__global__ void HalfABarrier()
{
  if (threadIdx.x < 64) __syncthreads();
}

__global__ void HalfAShuffle(int *out)
{
  if (threadIdx.x % 32 != 3) out[threadIdx.x] = __shfl_xor_sync(ALL, (int)threadIdx.x, 1);
  __syncthreads();
}

__global__ void HalfAWarp(int *out) { out[threadIdx.x] = __shfl_sync(0xffff, (int)threadIdx.x, 0); }

__global__ void Overflow(int *out) /* of the stack */
{
  volatile char large[1 << 20];

  large[0] = 1;
  out[0]   = large[0];
}

/* the child must die of a signal, having written the words */
static void Dies(const char *what, const char *words, const std::function<void()> &program)
{
  int         ends[2], status = 0;
  std::string said;
  char        buffer[512];

  if (pipe(ends) != 0) exit(1);
  fflush(NULL);
  const pid_t child = fork();
  if (child == 0) {
    const struct rlimit none = {0, 0};

    (void)setrlimit(RLIMIT_CORE, &none);
    dup2(ends[1], 2);
    close(ends[0]);
    program();
    _exit(0);
  }
  close(ends[1]);
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) said.append(buffer, (size_t)n);
  close(ends[0]);
  waitpid(child, &status, 0);
  CHECK(!(WIFEXITED(status) && WEXITSTATUS(status) == 0) && said.find(words) != std::string::npos,
        "%s: status %d, message \"%s\"", what, status, said.c_str());
}

static void TestWrong()
{
  int *out = nullptr;

  CUDA(cudaMalloc(&out, 256 * sizeof *out));
  Dies("a barrier in a branch", "64 of 128 threads reached __syncthreads, but not thread (64, 0, 0)",
       [] { GRAM_LAUNCH(HalfABarrier, 1, 128, 0); });
  Dies("a shuffle in a branch", "reached __shfl_xor_sync, but not thread (3, 0, 0)",
       [=] { GRAM_LAUNCH(HalfAShuffle, 1, 32, 0, out); });
  Dies("a shuffle of 20 threads", "threads that the block does not have",
       [=] { GRAM_LAUNCH(HalfAShuffle, 1, 3, 0, out); });
  Dies("a mask", "__shfl_sync with mask 0000ffff", [=] { GRAM_LAUNCH(HalfAWarp, 1, 32, 0, out); });
#if defined(__SANITIZE_ADDRESS__)
  Dies("the host at a device's memory", "use-after-poison", [=] { ((volatile int *)out)[0] = 1; });
  Dies("a kernel past its memory", "heap-buffer-overflow", [=] { GRAM_LAUNCH(Fill, 9, 32, 0, out, 1); });
#endif
  Dies("a stack", "", [=] { GRAM_LAUNCH(Overflow, 1, 32, 0, out); });
  CUDA(cudaFree(out));
}

/* ---- streams */

__global__ void Copy(const int *x, int *y)
{
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;

  y[i] = x[i];
}

/* waits: the consumer's stream waits for the producer's event, and the pinned buffer is written again only after one.
   Returns what the host sees: 7 and 1 where that was right. */
static void Pipeline(bool waits, int seen[2])
{
  const size_t n = 64, bytes = n * sizeof(int);
  int         *x, *y, *z, *pinned, *result;
  cudaStream_t producer, consumer;
  cudaEvent_t  filled, copied;

  CUDA(cudaMalloc(&x, bytes));
  CUDA(cudaMalloc(&y, bytes));
  CUDA(cudaMalloc(&z, bytes));
  CUDA(cudaMallocHost(&pinned, bytes));
  CUDA(cudaHostAlloc(&result, 2 * bytes, cudaHostAllocDefault));
  CUDA(cudaStreamCreateWithFlags(&producer, cudaStreamNonBlocking));
  CUDA(cudaStreamCreateWithFlags(&consumer, cudaStreamNonBlocking));
  CUDA(cudaEventCreateWithFlags(&filled, cudaEventDisableTiming));
  CUDA(cudaEventCreateWithFlags(&copied, cudaEventDisableTiming));
  for (size_t i = 0; i < n; i++) pinned[i] = 1;
  GRAM_LAUNCH(Fill, 2, 32, producer, x, 7);
  CUDA(cudaMemcpyAsync(z, pinned, bytes, cudaMemcpyHostToDevice, producer));
  CUDA(cudaEventRecord(filled, producer));
  if (waits) {
    CUDA(cudaStreamWaitEvent(consumer, filled));
    CUDA(cudaEventSynchronize(filled));
  }
  for (size_t i = 0; i < n; i++) pinned[i] = 2;
  GRAM_LAUNCH(Copy, 2, 32, consumer, x, y);
  CUDA(cudaMemcpyAsync(result, y, bytes, cudaMemcpyDeviceToHost, consumer));
  CUDA(cudaEventRecord(copied, consumer));
  while (cudaEventQuery(copied) == cudaErrorNotReady) continue;
  seen[0] = result[n - 1];
  CUDA(cudaStreamSynchronize(producer));
  CUDA(cudaMemcpy(result + n, z, bytes, cudaMemcpyDefault));
  seen[1] = result[2 * n - 1];
  CUDA(cudaEventDestroy(filled));
  CUDA(cudaEventDestroy(copied));
  CUDA(cudaStreamDestroy(producer));
  CUDA(cudaStreamDestroy(consumer));
  CHECK(cudaStreamSynchronize(producer) == cudaErrorInvalidResourceHandle, "a stream that is gone");
  CHECK(cudaGetLastError() == cudaErrorInvalidResourceHandle, "the last error");
  CUDA(cudaFree(x));
  CUDA(cudaFree(y));
  CUDA(cudaFree(z));
  CUDA(cudaFreeHost(pinned));
  CUDA(cudaFreeHost(result));
}

/* the default stream is in order with others, but not with those that do not block */
static int DefaultStream(unsigned flags)
{
  int         *x, *pinned;
  cudaStream_t stream;

  CUDA(cudaMalloc(&x, 32 * sizeof *x));
  CUDA(cudaMallocHost(&pinned, 32 * sizeof *x));
  CUDA(cudaStreamCreateWithFlags(&stream, flags));
  CUDA(cudaMemset(x, 0, 32 * sizeof *x));
  GRAM_LAUNCH(Fill, 1, 32, stream, x, 5);
  CUDA(cudaMemcpy(pinned, x, 32 * sizeof *x, cudaMemcpyDeviceToHost));
  const int seen = pinned[31];
  CUDA(cudaStreamDestroy(stream));
  CUDA(cudaDeviceSynchronize());
  CUDA(cudaFree(x));
  CUDA(cudaFreeHost(pinned));
  return seen;
}

static void TestLazy()
{
  for (int lazy = 0; lazy < 2; lazy++) {
    int right[2], wrong[2];

    setenv("GRAM_CUDA_HOST_LAZY", lazy ? "1" : "0", 1);
    Pipeline(true, right);
    Pipeline(false, wrong);
    CHECK(right[0] == 7 && right[1] == 1, "lazy %d, synchronised: %d, %d", lazy, right[0], right[1]);
    if (lazy) CHECK(wrong[0] == -1 && wrong[1] == 2, "lazy, not synchronised: %d, %d", wrong[0], wrong[1]);
    else CHECK(wrong[0] == 7 && wrong[1] == 1, "at once: %d, %d", wrong[0], wrong[1]);
    CHECK(DefaultStream(cudaStreamDefault) == 5, "lazy %d: the default stream does not wait", lazy);
    CHECK(DefaultStream(cudaStreamNonBlocking) == (lazy ? 0 : 5), "lazy %d: the default stream waits", lazy);
  }
  unsetenv("GRAM_CUDA_HOST_LAZY");
}

/* ---- devices and memory */

static void TestDevices()
{
  cudaDeviceProp        prop;
  cudaPointerAttributes where;
  size_t                available = 0, total = 0;
  char                 *p = nullptr, *q = nullptr, host[64];
  int                   count = -1, device = -1;

  setenv("GRAM_CUDA_HOST_DEVICES", "0", 1);
  CHECK(cudaGetDeviceCount(&count) == cudaErrorNoDevice && count == 0, "a machine without devices has %d",
        count);
  CHECK(cudaMalloc(&p, 1) == cudaErrorNoDevice && cudaGetLastError() == cudaErrorNoDevice,
        "memory of no device");
  CHECK(!strcmp(cudaGetErrorName(cudaErrorNoDevice), "cudaErrorNoDevice"), "names of errors");
  setenv("GRAM_CUDA_HOST_DEVICES", "2", 1);
  setenv("GRAM_CUDA_HOST_BYTES", "1000", 1);
  CHECK(cudaGetDeviceCount(&count) == cudaSuccess && count == 2, "two devices are %d", count);
  CUDA(cudaGetDeviceProperties(&prop, 1));
  CHECK(prop.totalGlobalMem == 1000 && cudaSetDevice(2) == cudaErrorInvalidDevice, "properties");
  CUDA(cudaMalloc(&p, 600));
  CHECK(cudaMalloc(&q, 600) == cudaErrorMemoryAllocation && !q, "more than there is");
  CUDA(cudaSetDevice(1));
  CUDA(cudaGetDevice(&device));
  CUDA(cudaMalloc(&q, 700));
  CUDA(cudaMemGetInfo(&available, &total));
  CHECK(device == 1 && available == 300 && total == 1000, "device %d has %zu of %zu", device, available,
        total);
  CUDA(cudaPointerGetAttributes(&where, q + 699));
  CHECK(where.type == cudaMemoryTypeDevice && where.device == 1, "where an address is");
  CUDA(cudaPointerGetAttributes(&where, host));
  CHECK(where.type == cudaMemoryTypeUnregistered, "what an address of the host is");
  CUDA(cudaMemcpy(host, q, 64, cudaMemcpyDefault));
  CHECK(host[0] == (char)0xff && host[63] == (char)0xff, "fresh memory is not garbage");
  CHECK(cudaMemcpy(q, host, 64, cudaMemcpyDeviceToHost) == cudaErrorInvalidMemcpyDirection, "a direction");
  CHECK(cudaMemcpy(q + 690, host, 64, cudaMemcpyHostToDevice) == cudaErrorInvalidValue, "past the end");
  CHECK(cudaFree(q + 1) == cudaErrorInvalidValue && cudaFreeHost(q) == cudaErrorInvalidValue,
        "what is not its");
  CUDA(cudaFree(p));
  CUDA(cudaFree(q));
  CUDA(cudaFree(nullptr));
  CUDA(cudaSetDevice(0));
  (void)cudaGetLastError();
  unsetenv("GRAM_CUDA_HOST_DEVICES");
  unsetenv("GRAM_CUDA_HOST_BYTES");
}

/* ---- the shape of a tile: each pair once, for its row and for its column */

enum { THREADS = 128, ROWS = 8, COLS = 64, BLOCK_ROWS = THREADS * ROWS };

template <class T> struct Pairs {
  const T *x, *v, *w; /* rows, columns: the same points; y += K v, u += K' w */
  T       *y, *u;     /* u by blocks of rows */
  unsigned n;
};

template <class T> __device__ __forceinline__ void Stage(const Pairs<T> &p, T (*shared)[COLS], unsigned first)
{
  const unsigned t = threadIdx.x;

  if (t < COLS) shared[0][t] = p.x[first + t];
  else shared[1][t - COLS] = p.v[first + t - COLS];
}

/* Rows in registers, columns in shared memory, the next ones fetched while these are at work. In step s lane l is at
   column l + s, whose sum it has from its neighbour. */
template <class T, int rows> __global__ void __launch_bounds__(THREADS) PairsApply(Pairs<T> p)
{
  __shared__ T   columns[2][2][COLS], sums[THREADS / 32][COLS];
  const unsigned t = threadIdx.x, lane = t % 32, row = blockIdx.x * THREADS * rows + t;
  T              x[rows], w[rows], y[rows];

  for (unsigned r = 0; r < rows; r++) {
    x[r] = p.x[row + r * THREADS];
    w[r] = p.w[row + r * THREADS];
    y[r] = 0;
  }
  Stage(p, columns[0], 0);
  for (unsigned first = 0, now = 0; first < p.n; first += COLS, now ^= 1) {
    __syncthreads();
    if (first + COLS < p.n) Stage(p, columns[now ^ 1], first + COLS);
    for (unsigned group = 0; group < COLS; group += 32) {
      T sum = 0;

      for (unsigned s = 0; s < 32; s++) {
        const unsigned j = group + (lane + s) % 32;
        const T        z = columns[now][0][j], v = columns[now][1][j];

        for (unsigned r = 0; r < rows; r++) {
          const T d = x[r] - z, k = fma(d, d * T(-0.5), T(1));

          y[r] = fma(k, v, y[r]);
          sum  = fma(k, w[r], sum);
        }
        sum = __shfl_sync(ALL, sum, (int)(lane + 1));
      }
      sums[t / 32][group + lane] = sum;
    }
    __syncthreads();
    if (t < COLS) {
      T sum = 0;

      for (unsigned k = 0; k < THREADS / 32; k++) sum += sums[k][t];
      p.u[blockIdx.x * p.n + first + t] = sum;
    }
  }
  for (unsigned r = 0; r < rows; r++) p.y[row + r * THREADS] = y[r];
}

template <class T> static void TestPairs(const char *name, double eps)
{
  const unsigned n = 2 * BLOCK_ROWS;
  std::vector<T> x(n), v(n), w(n), y[2], u[2];
  double         best = INFINITY;

  for (unsigned i = 0; i < n; i++) {
    x[i] = (T)CheckUniform(70, i);
    v[i] = (T)CheckUniform(71, i);
    w[i] = (T)CheckUniform(72, i);
  }
  Pairs<T> p = {Upload(x), Upload(v), Upload(w), nullptr, nullptr, n};
  CUDA(cudaMalloc(&p.y, n * sizeof(T)));
  CUDA(cudaMalloc(&p.u, 2 * n * sizeof(T)));
  for (int seed = 0; seed < 2; seed++) {
    setenv("GRAM_CUDA_HOST_SEED", seed ? "99" : "1", 1);
    const auto begin = std::chrono::steady_clock::now();
    GRAM_LAUNCH((PairsApply<T, ROWS>), 2, THREADS, 0, p);
    CUDA(cudaDeviceSynchronize());
    const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - begin;
    best                                                = fmin(best, time.count());
    y[seed]                                             = Download(p.y, n);
    u[seed]                                             = Download(p.u, 2 * n);
  }
  unsetenv("GRAM_CUDA_HOST_SEED");
  CHECK(y[0] == y[1] && u[0] == u[1], "pairs in %s: bits depend on the seed", name);
  for (unsigned i = 0; i < n; i++) {
    double yi = 0, ui = 0;

    for (unsigned j = 0; j < n; j++) {
      const double d = (double)x[i] - (double)x[j], k = 1 - d * d / 2;

      yi += k * (double)v[j];
      ui += k * (double)w[j];
    }
    CHECK_CLOSE(name, y[0][i], yi, 2048 * eps); /* sums of 2048 positive terms */
    CHECK_CLOSE(name, u[0][i] + u[0][n + i], ui, 2048 * eps);
  }
  printf("pairs in %s: %.2f ns each, %.1f ns per shuffle with its %d pairs\n", name, best / n / n,
         best / n / n * ROWS, ROWS);
  CUDA(cudaFree((void *)p.x));
  CUDA(cudaFree((void *)p.v));
  CUDA(cudaFree((void *)p.w));
  CUDA(cudaFree(p.y));
  CUDA(cudaFree(p.u));
}

/* shuffles, barriers and products of fragments alone */
__global__ void Shuffles(int n, unsigned *out)
{
  unsigned a = threadIdx.x;

  for (int i = 0; i < n; i++) a += __shfl_sync(ALL, a, (int)(a % 32));
  out[threadIdx.x] = a;
}

__global__ void Barriers(int n)
{
  for (int i = 0; i < n; i++) __syncthreads();
}

__global__ void Products(int n, float *out)
{
  const unsigned a[4] = {0x3c003c00u, 0x3c003c00u, 0x3c003c00u, 0x3c003c00u};
  float          c[4] = {0, 0, 0, 0};

  for (int i = 0; i < n; i++) GramMma16816(c, a, 0x3c003c00u, 0x3c003c00u, c);
  out[threadIdx.x] = c[0];
}

static double Seconds(const std::function<void()> &launch)
{
  launch();
  const auto begin = std::chrono::steady_clock::now();
  launch();
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
  return time.count();
}

static void Speed()
{
  void     *out = nullptr;
  const int n   = 20000;

  CUDA(cudaMalloc(&out, 128 * sizeof(double)));
  printf("shuffle %.1f ns per lane",
         1e9 / n / 128 * Seconds([=] { GRAM_LAUNCH(Shuffles, 1, 128, 0, n, (unsigned *)out); }));
  printf(", barrier %.1f ns per thread",
         1e9 / n / 128 * Seconds([=] { GRAM_LAUNCH(Barriers, 1, 128, 0, n); }));
  printf(", mma %.0f ns per warp\n",
         1e9 / n * Seconds([=] { GRAM_LAUNCH(Products, 1, 32, 0, n, (float *)out); }));
  CHECK(Download((float *)out, 1)[0] == 16 * n, "a sum of ones");
  CUDA(cudaFree(out));
}

int main()
{
  TestReduce<int>();
  TestReduce<unsigned>();
  TestReduce<float>();
  TestReduce<double>();
  TestShapes();
  for (uint64_t seed = 0; seed < 20; seed++) TestMma(seed < 10 ? 2 : 16, 100 * seed);
  TestCut();
  TestHalf();
  TestApproximations();
  TestRace();
  TestWrong();
  TestLazy();
  TestDevices();
  setenv("GRAM_CUDA_HOST_LAZY", "1", 1);
  TestReduce<float>();
  unsetenv("GRAM_CUDA_HOST_LAZY");
  TestPairs<float>("float", 0x1p-24);
  TestPairs<double>("double", 0x1p-53);
  Speed();
  return check_failures != 0;
}
