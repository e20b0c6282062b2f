package main

import (
	"cmp"
	"slices"
	"time"
)

// median returns the middle of values, or the mean of the two in the middle; 0
// of none. It leaves values as they are.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	switch {
	case len(sorted) == 0:
		return 0
	case len(sorted)%2 == 1:
		return sorted[middle]
	default:
		return (sorted[middle-1] + sorted[middle]) / 2
	}
}

// percentile returns the smallest of values that at least percent of 100 of
// them do not exceed (the nearest rank); 0 of none. It sorts values.
func percentile[T cmp.Ordered](values []T, percent int) T {
	if len(values) == 0 {
		var none T
		return none
	}
	slices.Sort(values)
	rank := (len(values)*percent + 99) / 100 // rounded up
	return values[max(rank, 1)-1]
}

// ratios divides each of values by what stands at its place in base.
func ratios(values, base []float64) []float64 {
	out := make([]float64, len(values))
	for i := range values {
		out[i] = values[i] / base[i]
	}
	return out
}

// microseconds returns d as a number of them.
func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
