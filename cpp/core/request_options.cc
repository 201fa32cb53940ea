#include "request_options.h"

#include <cmath>

#include "error.h"
#include "require.h"
#include "utf8.h"

namespace personaplug {
namespace {

constexpr double kLongestDeadline = 1e9; // seconds; a time point cannot hold all doubles

} // namespace

void RequestOptions::check(const Prompt &prompt, int context) const {
    const int size = prompt.size();
    int last = 0;
    for (const int length : keep) {
        require<PromptError>(length >= 1 && length <= size, "a length of keep",
                             "1 to " + std::to_string(size) + ", the positions of the prompt", length);
        require<PromptError>(length > last, "a length of keep", "more than the one before it, " + std::to_string(last),
                             length);
        last = length;
    }
    require<PromptError>(common >= 0 && common <= size, "common",
                         "0 to " + std::to_string(size) + ", the positions of the prompt", common);
    if (deadline) {
        require<PromptError>(std::isfinite(*deadline) && *deadline > 0.0 && *deadline <= kLongestDeadline, "deadline",
                             "a finite number of seconds more than 0, or none", *deadline);
    }
    require<PromptError>(protect >= 0 && protect <= size, "protect",
                         "0 to " + std::to_string(size) + ", the positions of the prompt", protect);
    require<PromptError>(!slide || protect <= context - 2, "protect",
                         "at most " + std::to_string(context - 2) + " in a context of " + std::to_string(context),
                         protect);
    if (!is_utf8(owner)) {
        throw PromptError("owner must be valid UTF-8");
    }
    if (adapter.find('\0') != std::string::npos) {
        throw PromptError("adapter must be a name or a path, without NUL");
    }
}

} // namespace personaplug
