#include "stop_matcher.h"

#include <algorithm>

namespace personaplug {

std::string StopMatcher::push(std::string text) {
    if (stops_.empty() || matched_) {
        return matched_ ? std::string() : text;
    }
    held_ += text;
    size_t first = std::string::npos;
    for (const auto &stop : stops_) {
        first = std::min(first, held_.find(stop));
    }
    if (first != std::string::npos) {
        matched_ = true;
        text = held_.substr(0, first);
        held_.clear();
        return text;
    }
    const size_t shown = held_.size() - held_length();
    text = held_.substr(0, shown);
    held_.erase(0, shown);
    return text;
}

std::string StopMatcher::flush() {
    std::string text;
    text.swap(held_);
    return text;
}

// The longest end of the text that is the beginning of a stop string.
size_t StopMatcher::held_length() const {
    size_t longest = 0;
    for (const auto &stop : stops_) {
        for (size_t n = std::min(stop.size() - 1, held_.size()); n > longest; --n) {
            if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) {
                longest = n;
            }
        }
    }
    return longest;
}

} // namespace personaplug
