/* The communication of data-parallel training, and nothing else: compiled by smpicc, run by smpirun (simulate.py).
 *
 * replay COMPUTE_S SPREAD CYCLE_S OVERLAP STEPS BYTES...
 *
 * A step: forward for a third of the compute time, backward for two; gradients come in as many groups as there are
 * BYTES, ready one after the other through the backward pass (OVERLAP 1) or all at its end (0). For each group the
 * thread that reduces wakes within a cycle, asks all ranks whether they have it (16 bytes, bitwise and), and adds it up.
 * Computing goes on meanwhile: it is a clock here, so one actor a rank is enough. Nothing is copied: all buffers are the
 * same shared pages, because a thousand real ones would fill the memory. The number of ranks is a power of two.
 */
#include <math.h>
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define REDUCE_S 1e-10  /* seconds to add one byte to another: 10 GB/s */
#define SHORT 2048      /* bytes up to which MPICH doubles whole messages */

static int rank, ranks;
static char *outgoing, *incoming;

static double uniform(uint64_t *state) {  /* splitmix64 */
    uint64_t z = (*state += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return ((z ^ (z >> 31)) >> 11) * (1.0 / 9007199254740992.0);
}

static double normal(uint64_t *state) {
    double radius = sqrt(-2 * log(uniform(state) + 1e-300));
    return radius * cos(2 * M_PI * uniform(state));
}

static void wait_until(double moment) {
    double left = moment - MPI_Wtime();
    if (left > 0) smpi_execute(left);
}

static void exchange(int partner, long bytes) {
    MPI_Sendrecv(outgoing, bytes, MPI_BYTE, partner, 1, incoming, bytes, MPI_BYTE, partner, 1, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
}

static void reduce(long bytes) {  /* as MPICH: recursive doubling if short, else Rabenseifner */
    if (bytes <= SHORT || bytes / 4 < ranks) {
        for (int distance = 1; distance < ranks; distance <<= 1) {
            exchange(rank ^ distance, bytes);
            smpi_execute(bytes * REDUCE_S);
        }
        return;
    }
    long part = bytes;
    for (int distance = 1; distance < ranks; distance <<= 1) {
        part /= 2;
        exchange(rank ^ distance, part);
        smpi_execute(part * REDUCE_S);
    }
    for (int distance = ranks / 2; distance; distance >>= 1) {
        exchange(rank ^ distance, part);
        part *= 2;
    }
}

int main(int argc, char **argv) {
    double compute = atof(argv[1]), spread = atof(argv[2]), cycle = atof(argv[3]);
    int overlap = atoi(argv[4]), steps = atoi(argv[5]), groups = argc - 6;
    long most = 1;
    for (int group = 0; group < groups; group++) most = atol(argv[6 + group]) > most ? atol(argv[6 + group]) : most;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    outgoing = SMPI_SHARED_MALLOC(most);
    incoming = SMPI_SHARED_MALLOC(most);
    uint64_t state = 1000003ull * (rank + 1);
    long long ready[2] = {0, 0};
    MPI_Barrier(MPI_COMM_WORLD);
    double first = MPI_Wtime();
    for (int step = 0; step < steps; step++) {
        double start = MPI_Wtime(), mine = compute * fmax(0.5, 1 + spread * normal(&state));
        for (int group = 0; group < groups; group++) {
            wait_until(start + (overlap ? mine / 3 + mine * 2 / 3 * (group + 1) / groups : mine));
            smpi_execute(cycle * uniform(&state));
            MPI_Allreduce(MPI_IN_PLACE, ready, 2, MPI_LONG_LONG, MPI_BAND, MPI_COMM_WORLD);
            reduce(atol(argv[6 + group]));
        }
        wait_until(start + mine);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    if (!rank) printf("%.9f\n", (MPI_Wtime() - first) / steps);
    SMPI_SHARED_FREE(outgoing);
    SMPI_SHARED_FREE(incoming);
    MPI_Finalize();
    return 0;
}
