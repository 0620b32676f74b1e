/* A stand-in for the NVIDIA driver's libnvidia-ml.so.1 with one device, "GPU-fake": 50 % busy, 3 GiB of
   memory in use, 1 GiB of it by the calling process. The environment switches off what devices can lack:
   FAKE_NO_ENERGY (a card before Volta), FAKE_CONTAINER (process ids of another namespace),
   FAKE_NOTHING (a MIG slice: all calls refused). */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
static const unsigned long long GIB = 1ULL << 30;
static int device;
static unsigned long long millijoules = 1000000;

struct utilization { unsigned gpu, memory; };
struct memory { unsigned version; unsigned long long total, reserved, free, used; };
struct process { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; };

static int refuses(void) { return getenv("FAKE_NOTHING") != NULL; }

int nvmlInitWithFlags(unsigned flags) { (void)flags; return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }

int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    *handle = &device;
    return strcmp(uuid, "GPU-fake") ? NOT_FOUND : SUCCESS;
}

int nvmlDeviceGetUtilizationRates(void *handle, struct utilization *found) {
    (void)handle;
    found->gpu = 50;
    return refuses() ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(void *handle, struct memory *found) {
    (void)handle;
    found->used = 3 * GIB;
    return refuses() ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, struct process *found) {
    (void)handle;
    if (refuses()) return NOT_SUPPORTED;
    unsigned room = *count;
    *count = 1;
    if (room < 1) return INSUFFICIENT_SIZE;
    found->pid = getenv("FAKE_CONTAINER") ? 1 : (unsigned)getpid();
    found->used = GIB;
    return SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *found) {
    (void)handle;
    *found = millijoules += 500; /* each look finds half a joule more */
    return refuses() || getenv("FAKE_NO_ENERGY") ? NOT_SUPPORTED : SUCCESS;
}
