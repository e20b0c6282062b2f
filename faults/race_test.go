//go:build race

package faults

// buildFlags has Caddy be built as the tests are: it looks for races, too.
var buildFlags = []string{"-race"}

// raced tells that Caddy is slower by that, and has more memory.
const raced = true
