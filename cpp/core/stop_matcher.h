// Stop strings across token borders: text that could be the beginning of a stop string is held back until it is known.
#pragma once

#include <string>
#include <vector>

namespace personaplug {

class StopMatcher {
  public:
    // Stops are UTF-8 and not empty; their order does not matter, the earliest place in the text wins.
    explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}

    // Text that is safe to show. After a match: what came before it, and matched() is true.
    std::string push(std::string text);
    // What was held back, when nothing follows.
    std::string flush();
    bool matched() const { return matched_; }

  private:
    size_t held_length() const;

    std::vector<std::string> stops_;
    std::string held_;
    bool matched_ = false;
};

} // namespace personaplug
