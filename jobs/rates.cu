/*
  Rates of a card: how many of each instruction one multiprocessor completes in a clock, and how fast the clock is.

    nvcc -O3 -arch=native -o rates jobs/rates.cu && ./rates

  Products are bound by few instructions: multiply-adds (FFMA, DFMA), 2^x (MUFU.EX2), matrix fragments (HMMA), columns
  that all threads read (LDS.128) and sums that move between lanes (SHFL). Every measurement fills each multiprocessor
  with warps that do nothing else, in chains that do not wait for each other, and takes the median over multiprocessors
  of work over clocks from the first warp's start to the last one's end.
*/
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <cuda_runtime.h>

#define CALL_CUDA(call)                                                      \
  do {                                                                       \
    const cudaError_t error_ = (call);                                       \
    if (error_ != cudaSuccess) {                                             \
      fprintf(stderr, "rates: %s: %s\n", #call, cudaGetErrorString(error_)); \
      exit(2);                                                               \
    }                                                                        \
  } while (0)

enum { THREADS = 256, CHAINS = 8, UNROLL = 8, REPEATS = 5 };

/* one block's first and last moment: clocks of its multiprocessor, and nanoseconds */
struct Stamp {
  long long clock[2], nanoseconds[2];
  int       sm;
};

__device__ static long long Nanoseconds()
{
  long long t;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
  return t;
}

/* Each instruction has a state, a step of all its chains, how many lanes it counts per step and thread, and a number
   made of the state so that nothing is optimised away. `zero` and `one` are arguments: no compiler knows them. */

struct Ffma {
  static constexpr const char *name = "FFMA";
  static constexpr double      work = CHAINS, expected = 128;
  float                        x[CHAINS], a, b;
  __device__                   Ffma(float zero, float one) : a(one), b(zero)
  {
    for (int c = 0; c < CHAINS; c++) x[c] = one * (float)(threadIdx.x + c);
  }
  __device__ void Step()
  {
#pragma unroll
    for (int c = 0; c < CHAINS; c++) x[c] = fmaf(x[c], a, b);
  }
  __device__ float Sum() const
  {
    float sum = 0;
    for (int c = 0; c < CHAINS; c++) sum += x[c];
    return sum;
  }
};

struct Ex2 {
  static constexpr const char *name = "MUFU.EX2";
  static constexpr double      work = CHAINS, expected = 16;
  float                        x[CHAINS];
  __device__                   Ex2(float zero, float)
  {
    for (int c = 0; c < CHAINS; c++) x[c] = zero - (float)(c + 1);
  }
  __device__ void Step()
  {
#pragma unroll
    for (int c = 0; c < CHAINS; c++) asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(x[c]));
  }
  __device__ float Sum() const
  {
    float sum = 0;
    for (int c = 0; c < CHAINS; c++) sum += x[c];
    return sum;
  }
};

/* the balance of a Gaussian in three dimensions: full rate is 16 of these groups, both pipes busy all the time */
struct Mixed {
  static constexpr const char *name = "7 FFMA + EX2";
  static constexpr double      work = CHAINS, expected = 16;
  float                        x[CHAINS], a, b;
  __device__                   Mixed(float zero, float one) : a(one), b(zero)
  {
    for (int c = 0; c < CHAINS; c++) x[c] = zero - (float)(c + 1);
  }
  __device__ void Step()
  {
#pragma unroll
    for (int c = 0; c < CHAINS; c++) {
#pragma unroll
      for (int k = 0; k < 7; k++) x[c] = fmaf(x[c], a, b);
      asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(x[c]));
    }
  }
  __device__ float Sum() const
  {
    float sum = 0;
    for (int c = 0; c < CHAINS; c++) sum += x[c];
    return sum;
  }
};

struct Dfma {
  static constexpr const char *name = "DFMA";
  static constexpr double      work = CHAINS, expected = 64;
  double                       x[CHAINS], a, b;
  __device__                   Dfma(float zero, float one) : a(one), b(zero)
  {
    for (int c = 0; c < CHAINS; c++) x[c] = a * (threadIdx.x + c);
  }
  __device__ void Step()
  {
#pragma unroll
    for (int c = 0; c < CHAINS; c++) x[c] = fma(x[c], a, b);
  }
  __device__ float Sum() const
  {
    double sum = 0;
    for (int c = 0; c < CHAINS; c++) sum += x[c];
    return (float)sum;
  }
};

/* mma.m16n8k16, fp16 products summed in fp32: 2048 multiply-adds a warp.
   On sm_90 only wgmma reaches the peak of the pipe. */
struct Hmma {
  static constexpr const char *name = "HMMA m16n8k16";
  static constexpr double      work = 4 * 64, expected = 2048;
  float                        d[4][4];
  unsigned                     a[4], b[2];
  __device__                   Hmma(float zero, float)
  {
    for (int c = 0; c < 4; c++) a[c] = __float_as_uint(zero);
    for (int c = 0; c < 2; c++) b[c] = __float_as_uint(zero);
    for (int c = 0; c < 16; c++) d[c / 4][c % 4] = zero;
  }
  __device__ void Step()
  {
#pragma unroll
    for (int c = 0; c < 4; c++)
      asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                   "{%0,%1,%2,%3};"
                   : "+f"(d[c][0]), "+f"(d[c][1]), "+f"(d[c][2]), "+f"(d[c][3])
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
  __device__ float Sum() const
  {
    float sum = 0;
    for (int c = 0; c < 16; c++) sum += d[c / 4][c % 4];
    return sum;
  }
};

/* one column record for all lanes; volatile, or all but the last are left out */
struct Lds {
  static constexpr const char *name = "uniform LDS.128";
  static constexpr double      work = CHAINS, expected = 16;
  float                        x[CHAINS][4];
  unsigned                     at;
  __device__                   Lds(float zero, float)
  {
    __shared__ float4 columns[CHAINS];
    if (threadIdx.x < CHAINS) columns[threadIdx.x] = make_float4(zero, zero, zero, zero);
    for (int c = 0; c < 4 * CHAINS; c++) x[c / 4][c % 4] = zero;
    __syncthreads();
    at = (unsigned)__cvta_generic_to_shared(columns);
  }
  __device__ void Step()
  {
#pragma unroll
    for (int c = 0; c < CHAINS; c++)
      asm volatile("ld.volatile.shared.v4.f32 {%0,%1,%2,%3}, [%4];"
                   : "=f"(x[c][0]), "=f"(x[c][1]), "=f"(x[c][2]), "=f"(x[c][3])
                   : "r"(at + 16 * c));
  }
  __device__ float Sum() const
  {
    float sum = 0;
    for (int c = 0; c < 4 * CHAINS; c++) sum += x[c / 4][c % 4];
    return sum;
  }
};

struct Shfl {
  static constexpr const char *name = "SHFL";
  static constexpr double      work = CHAINS, expected = 32;
  float                        x[CHAINS];
  unsigned                     lane;
  __device__                   Shfl(float, float one) : lane((threadIdx.x + 1) % 32)
  {
    for (int c = 0; c < CHAINS; c++) x[c] = one * (float)(threadIdx.x + c);
  }
  __device__ void Step()
  {
#pragma unroll
    for (int c = 0; c < CHAINS; c++)
      asm volatile("shfl.sync.idx.b32 %0, %0, %1, 0x1f, 0xffffffff;" : "+f"(x[c]) : "r"(lane));
  }
  __device__ float Sum() const
  {
    float sum = 0;
    for (int c = 0; c < CHAINS; c++) sum += x[c];
    return sum;
  }
};

template <class Instruction>
__global__ void __launch_bounds__(THREADS) Run(int rounds, float zero, float one, Stamp stamps[], float *sink)
{
  Instruction is(zero, one);
  Stamp       stamp;

  __syncthreads();
  stamp.clock[0]       = clock64();
  stamp.nanoseconds[0] = Nanoseconds();
#pragma unroll 1
  for (int round = 0; round < rounds; round++) {
#pragma unroll
    for (int k = 0; k < UNROLL; k++) is.Step();
  }
  if (is.Sum() == -1) *sink = 1; /* never */
  __syncthreads();
  stamp.nanoseconds[1] = Nanoseconds();
  stamp.clock[1]       = clock64();
  asm volatile("mov.u32 %0, %%smid;" : "=r"(stamp.sm));
  if (threadIdx.x == 0) stamps[blockIdx.x] = stamp;
}

/* lanes a clock on the multiprocessor in the middle; *hertz: of its clock */
static double Rate(const std::vector<Stamp> &stamps, int sms, double work, double *hertz)
{
  std::vector<double> rates, clocks;

  for (int sm = 0; sm < sms; sm++) {
    long long first = 0, last = 0, blocks = 0;

    for (const Stamp &s : stamps) {
      if (s.sm != sm) continue;
      first = blocks ? std::min(first, s.clock[0]) : s.clock[0];
      last  = blocks ? std::max(last, s.clock[1]) : s.clock[1];
      blocks++;
      clocks.push_back(1e9 * (double)(s.clock[1] - s.clock[0]) /
                       (double)(s.nanoseconds[1] - s.nanoseconds[0]));
    }
    if (blocks) rates.push_back(work * (double)blocks / (double)(last - first));
  }
  std::nth_element(rates.begin(), rates.begin() + (long)rates.size() / 2, rates.end());
  std::nth_element(clocks.begin(), clocks.begin() + (long)clocks.size() / 2, clocks.end());
  *hertz = clocks[clocks.size() / 2];
  return rates[rates.size() / 2];
}

template <class Instruction> static void Measure(int sms, Stamp *stamps, float *sink)
{
  int                resident, rounds = 32;
  std::vector<Stamp> taken;
  double             best = 0, hertz = 0;
  float              milliseconds = 0;
  cudaEvent_t        start, stop;

  CALL_CUDA(cudaEventCreate(&start));
  CALL_CUDA(cudaEventCreate(&stop));
  CALL_CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, Run<Instruction>, THREADS, 0));
  taken.resize((size_t)(sms * resident));
  do { /* also warms up */
    rounds *= 2;
    CALL_CUDA(cudaEventRecord(start));
    Run<Instruction><<<sms * resident, THREADS>>>(rounds, 0, 1, stamps, sink);
    CALL_CUDA(cudaGetLastError());
    CALL_CUDA(cudaEventRecord(stop));
    CALL_CUDA(cudaEventSynchronize(stop));
    CALL_CUDA(cudaEventElapsedTime(&milliseconds, start, stop));
  } while (milliseconds < 20);
  for (int repeat = 0; repeat < REPEATS; repeat++) {
    double clock, rate;

    Run<Instruction><<<sms * resident, THREADS>>>(rounds, 0, 1, stamps, sink);
    CALL_CUDA(cudaGetLastError());
    CALL_CUDA(cudaMemcpy(taken.data(), stamps, taken.size() * sizeof(Stamp), cudaMemcpyDeviceToHost));
    rate = Rate(taken, sms, Instruction::work * UNROLL * (double)rounds * THREADS, &clock);
    if (rate > best) best = rate, hertz = clock;
  }
  printf("| %s | %.1f | %.0f | %.0f %% | %.3f | %.2f |\n", Instruction::name, best, Instruction::expected,
         100 * best / Instruction::expected, 1e-9 * hertz, 1e-12 * best * hertz * sms);
  CALL_CUDA(cudaEventDestroy(start));
  CALL_CUDA(cudaEventDestroy(stop));
}

int main()
{
  cudaDeviceProp card;
  Stamp         *stamps;
  float         *sink;

  CALL_CUDA(cudaGetDeviceProperties(&card, 0));
  CALL_CUDA(cudaMalloc(&stamps, (size_t)card.multiProcessorCount * 32 * sizeof(Stamp)));
  CALL_CUDA(cudaMalloc(&sink, sizeof(float)));
  printf("%s, %d multiprocessors, best of %d\n\n", card.name, card.multiProcessorCount, REPEATS);
  printf("| instruction | lanes per SM and clock | of sm_90 expected | reached | GHz | T/s on the card |\n");
  printf("|---|---|---|---|---|---|\n");
  Measure<Ffma>(card.multiProcessorCount, stamps, sink);
  Measure<Ex2>(card.multiProcessorCount, stamps, sink);
  Measure<Mixed>(card.multiProcessorCount, stamps, sink);
  Measure<Dfma>(card.multiProcessorCount, stamps, sink);
  Measure<Hmma>(card.multiProcessorCount, stamps, sink);
  Measure<Lds>(card.multiProcessorCount, stamps, sink);
  Measure<Shfl>(card.multiProcessorCount, stamps, sink);
  printf("\nHMMA counts multiply-adds: 2048 a warp instruction; LDS.128 and SHFL count lanes of warp "
         "instructions.\n");
  return 0;
}
