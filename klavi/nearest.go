package klavi

import "strings"

// Nearest returns the one of the known names that somebody who wrote name is most likely to have meant, for errors
// that ask "did you mean". Upper and lower case count as the same. It is false where nothing is close: more than
// one change in four bytes, two in eight, or three at all.
func Nearest(name string, known []string) (string, bool) {
	const longest = 128
	if name == "" || len(name) > longest {
		return "", false
	}
	folded := strings.ToLower(name)
	limit := min(3, max(1, len(folded)/4))
	best, bestDistance := "", limit+1
	for _, candidate := range known {
		if len(candidate) > longest {
			continue
		}
		if d := editDistance(folded, strings.ToLower(candidate)); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best, bestDistance <= limit
}

// editDistance counts the bytes to insert, delete, replace or swap with their neighbour to make b of a.
func editDistance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
