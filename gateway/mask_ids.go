package gateway

// idEnd returns where an id ends that begins with the word b[i:end], if it can be
// told to be one: a UUID, a trace id, a SHA-1 or SHA-256. One in some thousands of
// them holds digits that would pass for a tax id.
func (m *masker) idEnd(i, end int) (int, bool) {
	switch end - i {
	case 8:
		const uuid = 36
		if end == len(m.b) || m.b[end] != '-' || i+uuid > len(m.b) || i+uuid < len(m.b) && isWordByte(m.b[i+uuid]) {
			return 0, false
		}
		for at, c := range m.b[i : i+uuid] {
			dash := at == 8 || at == 13 || at == 18 || at == 23
			if _, ok := unhex(c); dash && c != '-' || !dash && !ok {
				return 0, false
			}
		}
		return i + uuid, true
	case 32, 40, 64:
		for _, c := range m.b[i:end] {
			if _, ok := unhex(c); !ok || 'A' <= c && c <= 'F' {
				return 0, false
			}
		}
		return end, !m.allDigits(i, end)
	}
	return 0, false
}

// isCompactTime reports whether 14 digits are a time such as 20261122130811.
func isCompactTime(digits []byte) bool {
	part := func(from int, least, most string) bool {
		text := string(digits[from : from+len(least)])
		return least <= text && text <= most
	}
	return part(0, "1970", "2099") && part(4, "01", "12") && part(6, "01", "31") &&
		part(8, "00", "23") && part(10, "00", "59") && part(12, "00", "60")
}
