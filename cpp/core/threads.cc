#include "threads.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#if defined(_WIN32)
#define NOMINMAX
#include <windows.h>
#else
#include <ctime>
#endif
#if defined(__linux__)
#include <sched.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace personaplug {

int physical_cores() {
#if defined(__linux__)
    cpu_set_t allowed;
    std::set<std::string> cores;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) {
        for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
            if (!CPU_ISSET(cpu, &allowed)) {
                continue;
            }
            std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings");
            std::string siblings;
            cores.insert(std::getline(file, siblings) ? siblings : "cpu" + std::to_string(cpu));
        }
    }
    if (!cores.empty()) {
        return static_cast<int>(cores.size());
    }
#elif defined(__APPLE__)
    int count = 0;
    size_t size = sizeof(count);
    // The performance cores: an efficiency core in the team holds all the others back.
    if (sysctlbyname("hw.perflevel0.physicalcpu", &count, &size, nullptr, 0) == 0 && count > 0) {
        return count;
    }
    if (sysctlbyname("hw.physicalcpu", &count, &size, nullptr, 0) == 0 && count > 0) {
        return count;
    }
#endif
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency() / 2));
}

double thread_seconds() {
#if defined(_WIN32)
    FILETIME made, ended, kernel, user;
    if (!GetThreadTimes(GetCurrentThread(), &made, &ended, &kernel, &user)) {
        return 0.0;
    }
    const auto ticks = [](const FILETIME &time) {
        return static_cast<double>((static_cast<unsigned long long>(time.dwHighDateTime) << 32) | time.dwLowDateTime);
    };
    return 1e-7 * (ticks(kernel) + ticks(user));
#else
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
#endif
}

} // namespace personaplug
