#include "log.h"

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "llama.h"

namespace personaplug {
namespace {

constexpr size_t kKept = 4;

std::vector<std::string> &lines() {
    static thread_local std::vector<std::string> kept;
    return kept;
}

void on_log(ggml_log_level level, const char *text, void *echo) {
    if (echo != nullptr) {
        std::fputs(text, stderr);
    }
    if (level != GGML_LOG_LEVEL_ERROR) {
        return;
    }
    std::string line(text);
    while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) {
        line.pop_back();
    }
    if (line.empty()) {
        return;
    }
    auto &kept = lines();
    if (kept.size() == kKept) {
        kept.erase(kept.begin());
    }
    kept.push_back(std::move(line));
}

} // namespace

void capture_log() {
    static char marker = 0;
    const char *wanted = std::getenv("PERSONAPLUG_LOG");
    llama_log_set(on_log, wanted != nullptr && *wanted != '\0' && *wanted != '0' ? &marker : nullptr);
}

void clear_log() { lines().clear(); }

std::string logged_errors(const std::string &fallback) {
    std::string joined;
    for (const auto &line : lines()) {
        joined += joined.empty() ? line : "; " + line;
    }
    return joined.empty() ? fallback : joined;
}

} // namespace personaplug
