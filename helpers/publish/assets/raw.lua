-- Code with the attribute "typst" is Typst of ours, to be taken as it is.
local function raw(kind)
  return function(code)
    if code.attributes.typst then return kind("typst", code.text) end
  end
end

return {{CodeBlock = raw(pandoc.RawBlock), Code = raw(pandoc.RawInline)}}
